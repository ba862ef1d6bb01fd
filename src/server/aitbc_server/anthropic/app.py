"""The application: which path is what, and how requests for messages are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from aitbc_server.anthropic.errors import ANTHROPIC
from aitbc_server.anthropic.events import message_events
from aitbc_server.anthropic.message import message_of
from aitbc_server.anthropic.models import get_model, list_models
from aitbc_server.anthropic.part import ANTHROPIC_PART
from aitbc_server.anthropic.request import CountRequest, MessagesRequest
from aitbc_server.aside import by_size
from aitbc_server.auth.unread import Unread
from aitbc_server.domain.call import Call as TracedCall
from aitbc_server.domain.call import current_call
from aitbc_server.openai.call import Call
from aitbc_server.openai.jobs import Jobs
from aitbc_server.openai.query import ModelsQuery, Query
from aitbc_server.openai.unknown import Ignorance
from aitbc_server.rest.asgi import Receive, Response, Scope, Send
from aitbc_server.rest.errors import MethodNotAllowed, RouteNotFound
from aitbc_server.rest.site import Mount

_PREFIXES = ("", "/api")
_MESSAGES, _COUNT, _MODELS = "/v1/messages", "/v1/messages/count_tokens", "/v1/models"
# Both APIs have these paths, for different things: those of this one are not served.
_FILES = "/v1/files"
_VERSION = b"anthropic-version"


def anthropic_mounts(
    jobs: Jobs, *, max_body_bytes: int, ignorance: Ignorance, unread: Unread
) -> list[Mount]:
    """Returns the mounts below `/v1` and `/api/v1`. They go before those of OpenAI's API."""
    app = AnthropicApp(jobs, max_body_bytes, ignorance, unread)
    mounts = []
    for prefix in _PREFIXES:
        mounts += [
            Mount(f"{prefix}{path}", app, part=ANTHROPIC_PART)
            for path in (_MESSAGES, f"{_MESSAGES}/")
        ]
        mounts += [
            Mount(f"{prefix}{path}", app, _is_anthropics, ANTHROPIC_PART)
            for path in (_MODELS, f"{_MODELS}/", _FILES, f"{_FILES}/")
        ]
    return mounts


class AnthropicApp:
    """Answers the requests of Anthropic's clients."""

    def __init__(
        self, jobs: Jobs, max_body_bytes: int, ignorance: Ignorance, unread: Unread
    ) -> None:
        self._jobs = jobs
        self._unread = unread
        self._ignorance = ignorance
        self._max_body_bytes = max_body_bytes
        self._handlers: dict[str, tuple[str, type[Query], Callable[[Call], Awaitable[None]]]] = {
            _MESSAGES: ("POST", Query, self._messages),
            _COUNT: ("POST", Query, self._count),
            _MODELS: ("GET", ModelsQuery, self._list_models),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(
            scope, receive, send, self._max_body_bytes, ANTHROPIC, self._ignorance, self._unread
        )
        headers = call.client.headers
        current_call.set(TracedCall(headers["x-request-id"], headers.get("traceparent")))
        await call.run(self._answer(call, scope["path"].removeprefix("/api")))

    async def _answer(self, call: Call, path: str) -> None:
        method = "GET" if call.method == "HEAD" else call.method
        if path in self._handlers:
            only, query, handler = self._handlers[path]
            if method != only:
                raise MethodNotAllowed((only,))
            call.read_query(query)
            await handler(call)
            return
        if not path.startswith(f"{_MODELS}/"):
            raise RouteNotFound
        if method != "GET":
            raise MethodNotAllowed(("GET",))
        call.read_query(Query)
        await get_model(call, self._jobs, path.removeprefix(f"{_MODELS}/"))

    async def _messages(self, call: Call) -> None:
        jobs, client = self._jobs, call.client
        request, job_id = await self._submitted(call, MessagesRequest)
        async with jobs.cancelled_with_client([job_id], client):
            if request.stream:
                events = message_events(
                    jobs.events([job_id], client),
                    job_id,
                    request.model,
                    tells_thinking=request.tells_thinking,
                )
                await call.stream(events, _event)
                return
            async with call.watched():
                [job] = await jobs.results([job_id], client)
        is_told = request.tells_thinking
        with call.holding([job]):
            await call.answer(
                await by_size(
                    job.ByteSize(), message_of, job, request.model, tells_thinking=is_told
                )
            )

    async def _count(self, call: Call) -> None:
        _, job_id = await self._submitted(call, CountRequest)
        async with self._jobs.cancelled_with_client([job_id], call.client), call.watched():
            [job] = await self._jobs.results([job_id], call.client)
        await call.answer({"input_tokens": sum(len(one.token_ids) for one in job.outputs)})

    async def _submitted(self, call: Call, kind: type[Any]) -> tuple[Any, str]:
        """Reads a request and submits its job; returns both."""
        jobs, client = self._jobs, call.client
        await jobs.admit(client)
        body = await call.body()
        request = await call.read(kind, body)
        submission = await by_size(len(body), request.submission)
        await jobs.check_model(request.model, client)
        call.job_ids = await jobs.submit([submission], client)
        return request, call.job_ids[0]

    async def _list_models(self, call: Call) -> None:
        await list_models(call, self._jobs)


def anthropic_absent(scope: Scope) -> Response | None:
    """Returns the answer to a client of this API where nothing is; None of any other request."""
    path: str = scope["path"]
    if not (path.removeprefix("/api").startswith("/v1/") and _is_anthropics(scope)):
        return None
    request_id = current_call.get().request_id.encode()
    headers = ((b"request-id", request_id),)
    return ANTHROPIC.failure(RouteNotFound(), f"{scope['method']} {path}", headers)


def _is_anthropics(scope: Scope) -> bool:
    return any(name == _VERSION for name, _ in scope["headers"])


def _event(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))

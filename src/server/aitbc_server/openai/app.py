"""The application: which path is what, and how the requests that generate are answered."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from aitbc_server.aside import by_size
from aitbc_server.auth.unread import Unread
from aitbc_server.domain.call import Call as TracedCall
from aitbc_server.domain.call import current_call
from aitbc_server.openai.absent import unknown_url
from aitbc_server.openai.batches import Batches
from aitbc_server.openai.call import Call
from aitbc_server.openai.chat import Chat
from aitbc_server.openai.completions import Completions
from aitbc_server.openai.embeddings import Embeddings
from aitbc_server.openai.errors import too_many_answers
from aitbc_server.openai.files import Files
from aitbc_server.openai.input_tokens import InputTokens
from aitbc_server.openai.jobs import Jobs
from aitbc_server.openai.models import get_model, list_models
from aitbc_server.openai.operations import OPERATIONS
from aitbc_server.openai.part import OPENAI
from aitbc_server.openai.query import Query
from aitbc_server.openai.responses import Responses
from aitbc_server.openai.scores import Scores
from aitbc_server.openai.server_calls import ServerCalls
from aitbc_server.openai.task_jobs import TaskJobs
from aitbc_server.openai.tokens import Tokens
from aitbc_server.openai.unknown import Ignorance
from aitbc_server.rest.asgi import Receive, Scope, Send
from aitbc_server.rest.backend import Backend
from aitbc_server.rest.errors import MethodNotAllowed
from aitbc_server.rest.site import Mount

# Answers a call; the text is what the path has in the place of its variable.
_Handler = Callable[[Call, str], Awaitable[None]]

_PREFIXES = ("", "/api")
# OpenAI's endpoints that are not served, at paths where names of others are.
_NO_NAMES = ("/v1/responses/compact",)
_DONE = b"data: [DONE]\n\n"


def openai_mounts(
    backend: Backend, jobs: Jobs, *, max_body_bytes: int, ignorance: Ignorance, unread: Unread
) -> list[Mount]:
    """Returns the mounts of the OpenAI API below `/v1` and `/api/v1`."""
    app = OpenAIApp(backend, jobs, max_body_bytes, ignorance, unread)
    # What is below a path has a mount of its own.
    paths = dict.fromkeys(operation.path.partition("{")[0] for operation in OPERATIONS)
    return [Mount(prefix + path, app, part=OPENAI) for prefix in _PREFIXES for path in paths]


class OpenAIApp:
    """Answers the requests of OpenAI's clients."""

    def __init__(
        self,
        backend: Backend,
        jobs: Jobs,
        max_body_bytes: int,
        ignorance: Ignorance,
        unread: Unread,
    ) -> None:
        self._jobs = jobs
        self._unread = unread
        self._ignorance = ignorance
        self._max_body_bytes = max_body_bytes
        responses = Responses(self._jobs)
        task_jobs, server = TaskJobs(self._jobs), ServerCalls(self._jobs)
        tokens, embeddings, scores = Tokens(task_jobs), Embeddings(task_jobs), Scores(task_jobs)
        files, batches = Files(backend), Batches(backend)
        handlers: dict[str, _Handler] = {
            "createChatCompletion": self._chat,
            "createCompletion": self._completions,
            "listModels": lambda call, _: list_models(call, self._jobs),
            "retrieveModel": lambda call, model: get_model(call, self._jobs, model),
            "createResponse": lambda call, _: responses.create(call),
            "getResponse": responses.get,
            "countInputTokens": InputTokens(self._jobs, task_jobs).count,
            "listInputItems": responses.input_items,
            "deleteResponse": responses.delete,
            "cancelResponse": responses.cancel,
            "createEmbedding": embeddings.create,
            **dict.fromkeys(("score", "scoreV1"), scores.score),
            **dict.fromkeys(("rerank", "rerankV1", "rerankV2"), scores.rerank),
            "tokenize": tokens.tokenize,
            "detokenize": tokens.detokenize,
            "showVersion": server.version,
            **dict.fromkeys(("ping", "postPing"), server.ping),
            "getLoad": server.load,
            "createFile": lambda call, _: files.create(call),
            "listFiles": lambda call, _: files.list(call),
            "retrieveFile": files.get,
            "deleteFile": files.delete,
            "downloadFile": files.content,
            "createBatch": lambda call, _: batches.create(call),
            "listBatches": lambda call, _: batches.list(call),
            "retrieveBatch": batches.get,
            "cancelBatch": batches.cancel,
        }
        self._routes: dict[re.Pattern[str], dict[str, tuple[type[Query], _Handler]]] = {}
        for operation in OPERATIONS:
            by_method = self._routes.setdefault(_pattern(operation.path), {})
            by_method[operation.http_method] = operation.query, handlers[operation.name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(
            scope,
            receive,
            send,
            self._max_body_bytes,
            ignorance=self._ignorance,
            unread=self._unread,
        )
        headers = call.client.headers
        current_call.set(TracedCall(headers["x-request-id"], headers.get("traceparent")))
        await call.run(self._answer(call, scope["path"]))

    async def _answer(self, call: Call, path: str) -> None:
        if path.removeprefix("/api") in _NO_NAMES:
            raise unknown_url(call.where)
        for pattern, handlers in self._routes.items():
            match = pattern.fullmatch(path.removeprefix("/api"))
            if match is None:
                continue
            found = handlers.get("GET" if call.method == "HEAD" else call.method)
            if found is None:
                raise MethodNotAllowed(tuple(handlers))
            query, handler = found
            call.read_query(query)
            return await handler(call, "".join(match.groups()))
        raise unknown_url(call.where)

    async def _chat(self, call: Call, _: str) -> None:
        await self._generate(call, Chat)

    async def _completions(self, call: Call, _: str) -> None:
        await self._generate(call, Completions)

    async def _generate(self, call: Call, kind: type[Chat | Completions]) -> None:
        jobs, client = self._jobs, call.client
        await jobs.admit(client)
        body = await call.body()
        request: Any = await call.read(kind.schema, body)
        if len(body) * request.n > self._max_body_bytes:
            # Each is a job of its own, with all that was asked.
            raise too_many_answers("requests as large as this may ask for fewer")
        submissions = await by_size(
            len(body) * request.times, request.submissions, jobs.max_message_bytes
        )
        asked_bytes = sum(one.ByteSize() for one in submissions)
        await jobs.check_model(request.model, client)
        call.job_ids = await jobs.submit(submissions, client)
        told = kind(request, call.job_ids, int(time.time()))
        async with jobs.cancelled_with_client(call.job_ids, client):
            if request.stream:
                events = jobs.events(call.job_ids, client)
                await call.stream(told.chunks(events), _data, _DONE)
                return
            async with call.watched():
                results = await jobs.results(call.job_ids, client, asked_bytes)
        size = sum(job.ByteSize() for job in results)
        with call.holding(results):
            await call.answer(await by_size(size, told.whole, results))


def _pattern(path: str) -> re.Pattern[str]:
    # Names of models may have slashes.
    return re.compile(re.sub(r"\{\w+\}", "([^/]+)", path.replace("{model}", "(.+)")))


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)

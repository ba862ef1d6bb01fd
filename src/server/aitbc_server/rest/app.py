"""The ASGI application: HTTP in front of a backend, under `/` and, the same, under `/api`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from google.protobuf.descriptor import MethodDescriptor

from aitbc_server.alarms import Alarms
from aitbc_server.api.errors import let_go
from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.auth.unread import SMALL_BYTES, Unread
from aitbc_server.domain.call import Call, current_call, request_id
from aitbc_server.domain.errors import CoordinatorError, Draining, TooMuchUnread
from aitbc_server.rest.asgi import (
    API_HEADERS,
    Receive,
    Response,
    Scope,
    Send,
    peer_of,
    send_response,
)
from aitbc_server.rest.backend import Backend
from aitbc_server.rest.body import read_json
from aitbc_server.rest.errors import (
    HttpError,
    RouteNotFound,
    allow_header,
    error_response,
)
from aitbc_server.rest.reader import Reader
from aitbc_server.rest.route import Route, compile_routes
from aitbc_server.rest.router import Router
from aitbc_server.rest.stream import EventResponse, dialect_for
from aitbc_server.rest.watch import ClientGone, ClientWatch

# Answers a request of an API in front of this one for what is not there; None of any other.
Absent = Callable[[Scope], Response | None]
MAX_BODY_BYTES = 8 * 1024 * 1024
# Above the longest wait that a method offers.
CALL_TIMEOUT_S = 90.0
_PREFIX = "/api"
# Where a scope notes the method that a request calls.
_METHOD = "aitbc.method"
# And for whom.
_CALLER = "aitbc.caller"
# Calls that last longer end when their client goes. Most are over before it is worth watching.
_WATCH_CLIENT_AFTER_S = 0.2


class RestApp:
    """Answers HTTP requests by calls to the backend's methods."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        call_timeout_s: float = CALL_TIMEOUT_S,
        unread: Unread | None = None,
        absent: Sequence[Absent] = (),
    ) -> None:
        """`unread` counts what clients have not taken yet.

        `absent` answer what nothing is at, as far as it is of an API with errors of its own.
        """
        self._backend = backend
        self._unread = unread or Unread()
        self._absent = absent
        self._call_timeout_s = call_timeout_s
        self._max_body_bytes = max_body_bytes
        self._methods: Sequence[MethodDescriptor] = ()
        self._router: Router[Route] = compile_routes(())
        self._alarms = Alarms(_WATCH_CLIENT_AFTER_S)
        # The one in which it serves.
        self._loop: asyncio.AbstractEventLoop | None = None
        # Requests by method, empty where none was found, and status.
        self.calls: Counter[tuple[str, str]] = Counter()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own, which would be made for every request.
        if scope["type"] == "http":
            return self._http(scope, receive, send)
        return _other(scope, receive, send)

    async def has_path(self, path: str) -> bool:
        """Returns whether some method is bound to a path."""
        try:
            methods = await self._backend.methods()
            return bool(self._router_of(methods).allowed(_unprefixed(path)))
        except (HttpError, CoordinatorError):
            return False

    def _router_of(self, methods: Sequence[MethodDescriptor]) -> Router[Route]:
        if methods is not self._methods:
            self._router, self._methods = compile_routes(methods), methods
        return self._router

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        http_method = scope["method"]
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        call = Call(request_id(headers.get("x-request-id")), headers.get("traceparent"))
        current_call.set(call)
        # A gateway passes it on.
        headers["x-request-id"] = call.request_id
        named = (b"x-request-id", call.request_id.encode())
        try:
            response = await self._answer(http_method, scope, headers, receive)
            if isinstance(response, EventResponse):
                self._count(scope, response.status)
                response = replace(response, headers=(named,))
                reader = Reader(scope, send, self._unread, scope[_CALLER])
                await response.send(reader, receive, with_body=http_method != "HEAD")
                return
        except ClientGone as gone:
            let_go(gone)
            return
        except asyncio.CancelledError:
            # The server stops and waits no longer. This is the last thing the task does, and it
            # tells the client more than a cut connection would.
            response = error_response(Draining(), http_method)
        except RouteNotFound as error:
            response = self._not_found(scope) or error_response(error, http_method)
        except Exception as error:
            response = error_response(error, f"{http_method} {scope['path']}")
            let_go(error)
        self._count(scope, response.status)
        status, more, body = response
        named_response = Response(status, (named, *more), body)
        with_body = http_method != "HEAD"
        if len(body) <= SMALL_BYTES:
            await send_response(send, named_response, with_body=with_body)
            return
        reader = Reader(scope, send, self._unread, scope[_CALLER])
        try:
            await reader.respond(named_response, with_body=with_body)
        except TooMuchUnread as error:
            status, more, body = error_response(error, http_method)
            await send_response(send, Response(status, (named, *more), body), with_body=with_body)

    def _not_found(self, scope: Scope) -> Response | None:
        """Returns what an API in front of this one answers where nothing is."""
        if self._router.begins(_wire_path(scope)):
            return None
        return next((told for one in self._absent if (told := one(scope)) is not None), None)

    def _count(self, scope: Scope, status: int) -> None:
        self.calls[scope.get(_METHOD, ""), str(status)] += 1

    async def _answer(
        self, http_method: str, scope: Scope, headers: Mapping[str, str], receive: Receive
    ) -> Response | EventResponse:
        # 1. Which method is it?
        router = self._router_of(await self._backend.methods())
        path = _wire_path(scope)
        if http_method == "OPTIONS":
            return Response(204, ((b"allow", allow_header(router.allowed(path))), *API_HEADERS))
        route, captures = router.match("GET" if http_method == "HEAD" else http_method, path)
        route, query = route.chosen_by(scope["query_string"])
        scope[_METHOD] = route.method.name
        # 2. May the caller call it?
        caller = self._backend.admit(route.method, headers, peer_of(scope))
        scope[_CALLER] = caller
        if not route.is_unlimited:
            self._unread.check(caller)
        # 3. What does it ask?
        most = min(self._max_body_bytes, caller.limits.body_bytes or self._max_body_bytes)
        body = b""
        if route.has_body:
            await self._backend.confirm(route.method, headers, caller)
            body = await read_json(headers, receive, most)
        if len(body) > LARGE_BYTES:
            request = await aside(route.request, captures, query, headers, body)
        else:
            request = route.request(captures, query, headers, body)
        # 4. What is the answer?
        if route.method.server_streaming:
            messages = await self._backend.open(route.method, request, headers, caller)
            return route.stream(messages, dialect_for(headers.get("accept", "")))
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        watch = ClientWatch(
            receive, _WATCH_CLIENT_AFTER_S, self._call_timeout_s, self._loop, self._alarms
        )
        try:
            message = await self._backend.call(route.method, request, headers, caller)
        except asyncio.CancelledError:
            watch.raise_if_ended()
            raise
        finally:
            watch.close()
        if (size := message.ByteSize()) > LARGE_BYTES:
            # Large ones are made in turn, and those that wait for theirs are in memory, too.
            with self._unread.held(caller, size):
                return await aside(route.response, message, request, headers)
        return route.response(message, request, headers)


async def _other(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what is no request."""
    if scope["type"] == "websocket":
        # Before it is accepted, this refuses the handshake with 403.
        await send({"type": "websocket.close", "code": 1000})
    while scope["type"] == "lifespan":
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


def _wire_path(scope: Scope) -> str:
    # `path` is decoded, so that a slash within a segment can only be told from `raw_path`.
    path: str = scope["path"]
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is not None and b"%" in raw_path:
        path = raw_path.decode("latin-1")
    return _unprefixed(path)


def _unprefixed(path: str) -> str:
    if path.startswith(_PREFIX) and path[len(_PREFIX) :][:1] in {"", "/"}:
        return path[len(_PREFIX) :]
    return path

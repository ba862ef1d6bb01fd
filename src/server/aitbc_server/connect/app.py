"""The ASGI application: finds the method and the wire, lets the call in, and answers it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.alarms import Alarms
from aitbc_server.api.errors import let_go
from aitbc_server.aside import by_size
from aitbc_server.auth.unread import Unread
from aitbc_server.connect.envelopes import coding, unpacked
from aitbc_server.connect.errors import told_of
from aitbc_server.connect.exchange import Exchange, until
from aitbc_server.connect.methods import (
    PLAIN,
    Rpc,
    rpcs,
    stream_wire,
    unary_wire,
    wire_by_get,
    wrong_type,
)
from aitbc_server.connect.query import read_query
from aitbc_server.connect.wires import Head, UnaryWire, Wire
from aitbc_server.domain.errors import Draining, PayloadTooLarge
from aitbc_server.rest.asgi import API_HEADERS, Receive, Response, Scope, Send
from aitbc_server.rest.backend import Backend
from aitbc_server.rest.body import read_bytes
from aitbc_server.rest.errors import MethodNotAllowed, RouteNotFound, allow_header
from aitbc_server.rest.site import Mount
from aitbc_server.rest.watch import ClientGone, ClientWatch

# What the paths of all methods begin with: services of one package.
_PACKAGE = "/aitbc.v1."
_PREFIX = "/api"
# Calls that last longer end when their client goes.
_WATCH_CLIENT_AFTER_S = 0.2


def connect_mounts(
    backend: Backend,
    calls: Counter[tuple[str, str]],
    *,
    max_body_bytes: int,
    call_timeout_s: float,
    unread: Unread,
) -> list[Mount]:
    """Returns the mounts of all methods. `calls` counts them by name and status."""
    app = ConnectApp(backend, calls, max_body_bytes, call_timeout_s, unread)
    return [Mount(prefix + _PACKAGE, app, is_counted=False) for prefix in ("", _PREFIX)]


class ConnectApp:
    """Answers calls over Connect and gRPC-Web by calls to the backend's methods."""

    def __init__(
        self,
        backend: Backend,
        calls: Counter[tuple[str, str]],
        max_body_bytes: int,
        call_timeout_s: float,
        unread: Unread,
    ) -> None:
        self._backend = backend
        self._calls = calls
        self._max_body_bytes = max_body_bytes
        self._call_timeout_s = call_timeout_s
        self._unread = unread
        self._methods: Sequence[MethodDescriptor] = ()
        self._rpcs: dict[str, Rpc] = {}
        self._alarms = Alarms(_WATCH_CLIENT_AFTER_S)
        # The one in which it serves.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._unread)
        try:
            await self._answer(exchange)
        except ClientGone as gone:
            let_go(gone)
        except asyncio.CancelledError:
            # The server stops. This is the last thing the task does.
            await self._fail(exchange, Draining())
        except Exception as error:
            await self._fail(exchange, error)
            let_go(error)

    async def _answer(self, exchange: Exchange) -> None:
        rpc = await self._rpc_at(exchange.path.removeprefix(_PREFIX))
        exchange.method = rpc.method.name
        if exchange.http_method == "OPTIONS":
            allow = (b"allow", allow_header(rpc.http_methods))
            await self._respond(exchange, Response(204, (allow, *API_HEADERS)))
        elif exchange.http_method not in rpc.http_methods:
            raise MethodNotAllowed(rpc.http_methods)
        elif exchange.http_method == "GET":
            await self._get(exchange, rpc)
        else:
            await (self._stream if rpc.is_streaming else self._post)(exchange, rpc)

    async def _rpc_at(self, path: str) -> Rpc:
        methods = await self._backend.methods()
        if methods is not self._methods:
            self._rpcs, self._methods = rpcs(methods), methods
        rpc = self._rpcs.get(path)
        if rpc is None:
            raise RouteNotFound(f"no method is at {path[:100]}")
        return rpc

    async def _post(self, exchange: Exchange, rpc: Rpc) -> None:
        wire = unary_wire(exchange.headers.get("content-type", ""))
        exchange.wire = wire or PLAIN
        self._admit(exchange, rpc)
        if wire is None:
            raise wrong_type(rpc)
        await self._call(exchange, rpc, wire, wire.head(exchange.headers), None)

    async def _get(self, exchange: Exchange, rpc: Rpc) -> None:
        self._admit(exchange, rpc)
        query = read_query(exchange.query)
        wire = wire_by_get(query.encoding)
        if wire is None:
            raise wrong_type(rpc)
        packing = coding(query.compression, b"accept-encoding")
        head = wire.head(exchange.headers)._replace(coding=packing)
        await self._call(exchange, rpc, wire, head, query.message)

    async def _call(
        self, exchange: Exchange, rpc: Rpc, wire: UnaryWire, head: Head, body: bytes | None
    ) -> None:
        """Answers a call of a method with one response; `body`, where it has come already."""
        headers, caller = exchange.headers, exchange.reader.caller
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        async with until(_deadline(head)):
            request = await self._request(exchange, rpc, wire, head, body)
            watch = ClientWatch(
                exchange.receive,
                _WATCH_CLIENT_AFTER_S,
                self._call_timeout_s,
                self._loop,
                self._alarms,
            )
            try:
                message = await self._backend.call(rpc.method, request, headers, caller)
            except asyncio.CancelledError:
                watch.raise_if_ended()
                raise
            finally:
                watch.close()
        size = message.ByteSize()
        # Large ones are made in turn, and those that wait for theirs are in memory, too.
        with exchange.reader.held(size):
            encode = rpc.codec(wire.codec).encode
            response = wire.success(await by_size(size, encode, message))
            # Not in memory while its bytes wait to be read.
            del message, request
            await self._respond(exchange, response)

    async def _stream(self, exchange: Exchange, rpc: Rpc) -> None:
        """Answers a call of a method with many responses."""
        wire = stream_wire(exchange.headers.get("content-type", ""))
        exchange.wire = wire or PLAIN
        rpc.check()
        self._admit(exchange, rpc)
        if wire is None:
            raise wrong_type(rpc)
        head = wire.head(exchange.headers)
        headers, caller, deadline = exchange.headers, exchange.reader.caller, _deadline(head)
        async with until(deadline):
            request = await self._request(exchange, rpc, wire, head, None)
            messages = await self._backend.open(rpc.method, request, headers, caller)
        self._count(exchange, 200)
        await exchange.stream(messages, wire, rpc.codec(wire.codec).encode, deadline)

    def _admit(self, exchange: Exchange, rpc: Rpc) -> None:
        """Lets the call in, before anything of it is read but its head."""
        caller = self._backend.admit(rpc.method, exchange.headers, exchange.peer)
        exchange.reader.caller = caller
        if not rpc.is_unlimited:
            exchange.reader.check()

    async def _request(
        self, exchange: Exchange, rpc: Rpc, wire: Wire, head: Head, body: bytes | None
    ) -> Message:
        """Returns what a call asks; `body`, where it has come already."""
        caller = exchange.reader.caller
        most = min(self._max_body_bytes, caller.limits.body_bytes or self._max_body_bytes)
        await self._backend.confirm(rpc.method, exchange.headers, caller)
        if body is None:
            body = await read_bytes(exchange.headers, exchange.receive, wire.body_bytes(most))
        data, is_packed = wire.message(body, head, most)
        if is_packed:
            data = await unpacked(data, most)
        if len(data) > most:
            raise PayloadTooLarge(most)
        return await by_size(len(data), rpc.codec(wire.codec).decode, data)

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        if exchange.has_begun:
            return
        told = told_of(error, f"{exchange.http_method} {exchange.path}")
        status, headers, body = exchange.wire.failure(told)
        self._count(exchange, told.status)
        await exchange.respond(Response(status, headers, body))

    async def _respond(self, exchange: Exchange, response: Response) -> None:
        await exchange.respond(response)
        self._count(exchange, response.status)

    def _count(self, exchange: Exchange, status: int) -> None:
        self._calls[exchange.method, str(status)] += 1


def _deadline(head: Head) -> float | None:
    if head.timeout_s is None:
        return None
    return asyncio.get_running_loop().time() + head.timeout_s

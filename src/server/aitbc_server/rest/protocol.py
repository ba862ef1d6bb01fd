"""HTTP/1.1 on one connection: uvicorn's, with bounds on what a client may take of it.

uvicorn times out only connections that wait for their next request. Here a sweep over all
connections, once a second, sees what each waits for: that costs a request nothing, as timers would.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from aitbc_server.rest.asgi import AsgiApp, Event, Receive, Scope, Send
from aitbc_server.rest.cycle import Cycle
from aitbc_server.rest.errors import (
    HeadersTooLarge,
    HttpError,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
    TooManyPipelined,
    error_response,
)
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.rest.outlet import Outlet
from aitbc_server.rest.peers import Peers
from aitbc_server.rest.reader import TAKEN
from aitbc_server.slices import is_spent

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

# Far above what browsers and proxies send.
_MOST_HEADERS = 128
# Requests that wait for the answer to one before them. Few clients send even one.
_MOST_PIPELINED = 16
# How long what is left of a body, whose request is answered, is taken and thrown away: to close at
# once would have the client lose the answer.
_LINGER_S = 5.0


class _State(NamedTuple):
    """What a connection waits for."""

    name: str
    # Of what; kept, so that no other object can be taken for it.
    subject: object
    limit_s: float


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: HttpLimits, peers: Peers, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._peers = peers
        # Whom it counts for; None when it is refused.
        self._peer: str | None = None
        # What came in a turn of the loop that had no time left for it.
        self._held = bytearray()
        # Of a head that is not complete yet.
        self._head_bytes = 0
        # Since anything of a body came: fields after it, or the sizes of its chunks.
        self._tail_bytes = 0
        self._chunk_bytes = 0
        self._state = _State("", None, math.inf)
        self._state_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Outlet(transport, self.loop))
        self._peer = self._peers.come(self.client[0] if self.client else "")
        if self._peer is None:
            self._refuse(TooManyConnections())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peer is not None:
            self._peers.go(self._peer)
            self._peer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._held or is_spent():
            # Of many connections to which something came at once, not all are read at once.
            if not self._held:
                self.transport.pause_reading()
                self.loop.call_soon(self._take_held)
            self._held += data
        else:
            self._take(data)

    def _take_held(self) -> None:
        if is_spent():
            self.loop.call_soon(self._take_held)
            return
        data, self._held = bytes(self._held), bytearray()
        if self.transport.is_closing():
            return
        if not self.flow.read_paused:
            self.transport.resume_reading()
        self._take(data)

    def _take(self, data: bytes) -> None:
        before, self._chunk_bytes = self.scope, len(data)
        self._tail_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as HTTP/1.1; what follows it could be in any protocol.
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, HttpError) else MalformedRequest())
            return
        if self.cycle is not None and self.cycle.scope is self.scope:
            self._head_bytes = 0
            if not self.cycle.more_body:
                self._tail_bytes = 0
            elif self._tail_bytes > self._limits.head_bytes:
                self._refuse(HeadersTooLarge(self._limits.head_bytes))
        elif before is None or self.scope is before:
            # Of a chunk in which one request ends and the next begins, the sweep sees the rest.
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(HeadersTooLarge(self._limits.head_bytes))

    def on_body(self, body: bytes) -> None:
        # As uvicorn's, which asks beside what nothing here is upgraded to.
        self._tail_bytes = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise TooManyPipelined
        self._tail_bytes = 0
        headers, limit = self.headers, self._limits.head_bytes
        if len(headers) > _MOST_HEADERS:
            raise HeadersTooLarge(limit)
        # Most heads come with little else in one piece, and need not be measured.
        if self._chunk_bytes + self._head_bytes > limit:
            size = len(self.url) + sum(len(name) + len(value) for name, value in headers)
            if size > limit:
                raise HeadersTooLarge(limit)
        self._begin()
        # A field after the body is nobody's header: who put it there may be another than who put
        # those before it (RFC 9110, section 6.5.1).
        self.headers = []

    def _begin(self) -> None:
        """Has the request answered, once those before it are."""
        scope = self.scope
        version, url = self.parser.get_http_version(), httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before, self.cycle = (
            self.cycle,
            Cycle(
                scope=scope,
                transport=self.transport,
                flow=self.flow,
                logger=self.logger,
                access_logger=self.access_logger,
                access_log=False,
                default_headers=self.server_state.default_headers,
                message_event=asyncio.Event(),
                expect_100_continue=self.expect_100_continue,
                keep_alive=version != "1.0" and self.parser.should_keep_alive(),
                on_response=self.on_response_complete,
            ),
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cast("Scope", cycle.scope)[TAKEN] = self.flow.drain
        if cycle.scope["http_version"] == "1.0":
            app = cast("ASGI3Application", _without_chunks(cast("AsgiApp", app), cycle))
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        # As uvicorn's, without its timer for idle connections: the sweep sees those too.
        self.server_state.total_requests += 1
        self.flow.resume_reading()

    def sweep(self, now: float) -> None:
        """Ends what it waits for when it has waited too long."""
        state = self._present()
        if state.name != self._state.name or state.subject is not self._state.subject:
            self._state, self._state_since = state, now
        elif now - self._state_since > state.limit_s:
            self._end(state.name)

    def _present(self) -> _State:
        cycle, limits = self.cycle, self._limits
        if unsent := self.transport.get_write_buffer_size():
            # A size that changes says that the client reads.
            return _State(f"write {unsent}", cycle, limits.stall_s)
        if cycle is None or (cycle.response_complete and self.scope is not cycle.scope):
            return _State("head", self.scope, limits.head_s)
        if cycle.more_body and cycle.response_complete:
            return _State("linger", cycle, min(_LINGER_S, limits.body_s))
        if cycle.more_body:
            return _State("body", cycle, limits.body_s)
        if cycle.response_complete:
            return _State("idle", cycle, limits.idle_s)
        return _State("answer", cycle, math.inf)

    def _end(self, name: str) -> None:
        if name.startswith("write"):
            self.transport.abort()
        elif name in {"idle", "linger"} or self.scope is None:
            self.transport.close()
        else:
            self._refuse(RequestTimeout())

    def _refuse(self, error: HttpError) -> None:
        """Answers for the application, and closes the connection."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # Of requests one after the other, the last is wrong: those before are answered.
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            if cycle.response_started:
                self.transport.close()
                return
            # The application waits for a body, and is told that the client has gone.
            cycle.disconnected = True
        response = error_response(error, "")
        lines = [STATUS_LINE[response.status]]
        for field, value in (*response.headers, (b"connection", b"close")):
            lines += [field, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", response.text]))
        self.transport.close()


def _without_chunks(app: AsgiApp, cycle: RequestResponseCycle) -> AsgiApp:
    """Has a body of unknown length end with the connection: HTTP/1.0 has no chunks."""

    async def unchunked(scope: Scope, receive: Receive, send: Send) -> None:
        is_bounded = True

        async def send_unchunked(event: Event) -> None:
            nonlocal is_bounded
            if event["type"] == "http.response.start":
                names = [name for name, _ in event.get("headers", ())]
                is_bounded = b"content-length" in names
                if not is_bounded:
                    cycle.chunked_encoding = False
            elif not is_bounded:
                # uvicorn holds what it sends to this.
                cycle.expected_content_length = len(event.get("body", b""))
            await send(event)

        await app(scope, receive, send_unchunked)

    return unchunked

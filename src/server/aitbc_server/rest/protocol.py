"""HTTP/1.1 on one connection: uvicorn's, with bounds on what a client may take of it.

uvicorn times out only connections that wait for their next request. Here a sweep over all
connections, once a second, sees what each waits for: that costs a request nothing, as timers would.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from aitbc_server.rest.errors import (
    HeadersTooLarge,
    HttpError,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
    error_response,
)
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.rest.outlet import Outlet

# Far above what browsers and proxies send.
_MOST_HEADERS = 128


class _State(NamedTuple):
    """What a connection waits for."""

    name: str
    # Of what; kept, so that no other object can be taken for it.
    subject: object
    limit_s: float


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: HttpLimits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        # Of a head that is not complete yet.
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._state = _State("", None, math.inf)
        self._state_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Outlet(transport, self.loop))
        if len(self.connections) > self._limits.connections:
            self._refuse(TooManyConnections())

    def data_received(self, data: bytes) -> None:
        before, self._chunk_bytes = self.scope, len(data)
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
        elif before is None or self.scope is before:
            # Of a chunk in which one request ends and the next begins, the sweep sees the rest.
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(HeadersTooLarge(self._limits.head_bytes))

    def on_headers_complete(self) -> None:
        headers, limit = self.headers, self._limits.head_bytes
        if len(headers) > _MOST_HEADERS:
            raise HeadersTooLarge(limit)
        # Most heads come with little else in one piece, and need not be measured.
        if self._chunk_bytes + self._head_bytes > limit:
            size = len(self.url) + sum(len(name) + len(value) for name, value in headers)
            if size > limit:
                raise HeadersTooLarge(limit)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        # As uvicorn's, without its timer for idle connections: the sweep sees those too.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

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
        if cycle.more_body:
            return _State("body", cycle, limits.body_s)
        if cycle.response_complete:
            return _State("idle", cycle, limits.idle_s)
        return _State("answer", cycle, math.inf)

    def _end(self, name: str) -> None:
        if name.startswith("write"):
            self.transport.abort()
        elif name == "idle" or self.scope is None:
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
        status, headers, body = error_response(error, "")
        lines = [STATUS_LINE[status]]
        for field, value in (*headers, (b"connection", b"close")):
            lines += [field, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        self.transport.close()

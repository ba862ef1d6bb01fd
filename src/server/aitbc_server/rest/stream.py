"""Responses that are sent as they are made: Server-Sent Events, or one JSON object a line.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html; lines as in
https://github.com/ndjson/ndjson-spec. An error before the first byte is an ordinary response; after
it, it is the last event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from google.protobuf.message import Message

from aitbc_server.api.endpoint import Messages
from aitbc_server.api.errors import let_go
from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.auth.unread import SMALL_BYTES
from aitbc_server.domain.errors import Draining
from aitbc_server.rest.accept import asks_for
from aitbc_server.rest.asgi import Headers, Receive
from aitbc_server.rest.errors import error_response
from aitbc_server.rest.reader import Reader
from aitbc_server.rest.watch import ClientWatch

# Below the shortest idle time of common proxies, 30 s.
_HEARTBEAT_S = 15.0
# A clock may be read a little before the time that a timer was set for.
_LEAST_S = 0.001
STREAM_HEADERS: Headers = (
    (b"cache-control", b"no-store"),
    # nginx would otherwise collect what is sent.
    (b"x-accel-buffering", b"no"),
)
_EVENTS_TYPE = "text/event-stream"
_LINES_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")


class Event(NamedTuple):
    """One message of a stream."""

    data: dict[str, Any]
    name: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a stream is written."""

    content_type: bytes
    event: Callable[[Event], bytes]
    # Takes the JSON body that the error would have had as a response.
    error: Callable[[bytes], bytes]
    # Means nothing, and keeps proxies from ending a silent connection.
    heartbeat: bytes


def _sse_event(event: Event) -> bytes:
    head = f"event: {event.name}\n" if event.name else ""
    if event.event_id:
        head += f"id: {event.event_id}\n"
    return b"%bdata: %b\n\n" % (head.encode(), orjson.dumps(event.data))


EVENTS = Dialect(
    b"text/event-stream; charset=utf-8",
    _sse_event,
    lambda body: b"event: error\ndata: %b\n\n" % body,
    b":\n\n",
)
LINES = Dialect(
    b"application/x-ndjson",
    lambda event: orjson.dumps(event.data, option=orjson.OPT_APPEND_NEWLINE),
    lambda body: b'{"error":%b}\n' % body,
    b"\n",
)


def dialect_for(accept: str) -> Dialect:
    """Returns lines for a client whose `Accept` asks for them by name, and events for any other."""
    return LINES if asks_for(accept, _LINES_TYPES, over=(_EVENTS_TYPE,)) else EVENTS


class Body:
    """The body of a response that is sent as it is made, for as long as its client is there.

    As a context it watches for the client's going, which ends it with ClientGone.
    """

    def __init__(self, reader: Reader, receive: Receive, heartbeat: bytes = b"") -> None:
        """`heartbeat` is sent in silence, where there is one."""
        self._reader = reader
        self._send = reader.send
        self._receive = receive
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        # Heartbeats come between writes, not into one.
        self._writing = asyncio.Lock()
        # When something was sent last.
        self._written_s = 0.0
        self._beating: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Body:
        self._watch = ClientWatch(self._receive, 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._watch.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()
        if kind is asyncio.CancelledError:
            self.raise_if_ended()

    async def start(self, status: int, headers: Headers) -> None:
        """Sends the head. From then on heartbeats keep the connection alive."""
        self._written_s = self._loop.time()
        if self._heartbeat:
            self._timer = self._loop.call_later(_HEARTBEAT_S, self._beat)
        head = {"type": "http.response.start", "status": status, "headers": headers}
        await self._send(head)

    async def write(self, data: bytes) -> None:
        """Sends more. Waits while the client reads too slowly. Raises TooMuchUnread."""
        send = self._send if len(data) <= SMALL_BYTES else self._reader.send_piece
        async with self._writing:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        self._written_s = self._loop.time()

    async def end(self, data: bytes = b"") -> None:
        """Sends the last."""
        async with self._writing:
            await self._send({"type": "http.response.body", "body": data})

    def raise_if_ended(self) -> None:
        """Raises ClientGone for a cancellation that means so."""
        self._watch.raise_if_ended()

    def _beat(self) -> None:
        silent_s = self._loop.time() - self._written_s
        # A client that reads nothing has its last write under way, and needs no more.
        if silent_s >= _HEARTBEAT_S and not self._writing.locked():
            self._beating = asyncio.create_task(self.write(self._heartbeat))
            silent_s = 0.0
        self._timer = self._loop.call_later(max(_HEARTBEAT_S - silent_s, _LEAST_S), self._beat)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResponse:
    """A stream of messages as a response."""

    messages: Messages
    event: Callable[[Message], Event]
    dialect: Dialect
    status: int
    # Status, without a body, of a stream that ends without a message. 0: the usual one.
    empty_status: int
    # Names the call in the log.
    where: str
    # Beside those of every stream.
    headers: Headers = ()

    async def send(self, reader: Reader, receive: Receive, *, with_body: bool) -> None:
        """Sends the stream to its end. Raises ClientGone."""
        headers = ((b"content-type", self.dialect.content_type), *STREAM_HEADERS, *self.headers)
        async with (
            contextlib.aclosing(self.messages),
            Body(reader, receive, self.dialect.heartbeat) as body,
        ):
            first = await anext(self.messages, None) if self.empty_status else None
            if self.empty_status and first is None:
                await body.start(self.empty_status, self.headers)
                return await body.end()
            await body.start(self.status, headers)
            if not with_body:
                return await body.end()
            try:
                if first is not None:
                    await body.write(await self._written(first))
                async for message in self.messages:
                    await body.write(await self._written(message))
            except asyncio.CancelledError:
                body.raise_if_ended()
                # The server stops. This is the last thing the task does.
                await body.end(self._error(Draining()))
            except Exception as error:
                await body.end(self._error(error))
                let_go(error)
            else:
                await body.end()

    async def _written(self, message: Message) -> bytes:
        if message.ByteSize() > LARGE_BYTES:
            return await aside(lambda: self.dialect.event(self.event(message)))
        return self.dialect.event(self.event(message))

    def _error(self, error: Exception) -> bytes:
        return self.dialect.error(error_response(error, self.where).text)

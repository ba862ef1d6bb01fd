"""One request over HTTP, and the ways to answer it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from google.protobuf.message import Message

from aitbc_server.api.endpoint import Messages
from aitbc_server.api.errors import let_go
from aitbc_server.aside import by_size
from aitbc_server.auth.unread import Unread
from aitbc_server.connect.errors import told_of
from aitbc_server.connect.methods import PLAIN
from aitbc_server.connect.wires import StreamWire, Wire
from aitbc_server.domain.call import Call, current_call, request_id
from aitbc_server.domain.errors import Draining, TooMuchUnread
from aitbc_server.rest.asgi import Receive, Response, Scope, Send, peer_of
from aitbc_server.rest.errors import CallTimeout
from aitbc_server.rest.reader import Reader
from aitbc_server.rest.stream import STREAM_HEADERS, Body


class Exchange:
    """A request that is being answered, and becomes the call under way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, unread: Unread) -> None:
        self.http_method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.peer = peer_of(scope)
        self.receive = receive
        self.reader = Reader(scope, send, unread)
        # Name of the method, once it is known, and how its client is answered.
        self.method = ""
        self.wire: Wire = PLAIN
        # Whether something is sent already.
        self.has_begun = False
        call = Call(request_id(self.headers.get("x-request-id")), self.headers.get("traceparent"))
        current_call.set(call)
        # A gateway passes it on.
        self.headers["x-request-id"] = call.request_id
        self._named = (b"x-request-id", call.request_id.encode())

    async def respond(self, response: Response) -> None:
        """Sends a whole response. Raises TooMuchUnread before anything is sent."""
        status, headers, body = response
        self.has_begun = True
        try:
            await self.reader.respond(
                Response(status, (self._named, *headers), body),
                with_body=self.http_method != "HEAD",
            )
        except TooMuchUnread:
            self.has_begun = False
            raise

    async def stream(
        self,
        messages: Messages,
        wire: StreamWire,
        encode: Callable[[Message], bytes],
        deadline: float | None,
    ) -> None:
        """Sends messages as they come, and how they ended. Raises ClientGone."""
        headers = ((b"content-type", wire.content_type), *STREAM_HEADERS, self._named)
        # Without heartbeats: neither protocol has a word that means nothing.
        async with contextlib.aclosing(messages), Body(self.reader, self.receive) as body:
            self.has_begun = True
            await body.start(200, headers)
            failure = None
            try:
                async with until(deadline):
                    async for message in messages:
                        size = message.ByteSize()
                        await body.write(wire.piece(await by_size(size, encode, message)))
            except asyncio.CancelledError:
                body.raise_if_ended()
                # The server stops. This is the last thing the task does.
                failure = told_of(Draining(), self.path).failure
            except Exception as error:
                failure = told_of(error, self.path).failure
                let_go(error)
            await body.end(wire.end(failure))


def until(deadline: float | None) -> contextlib.AbstractAsyncContextManager[None]:
    """Raises CallTimeout at a time of the event loop, where there is one."""
    return contextlib.nullcontext() if deadline is None else _until(deadline)


@contextlib.asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise CallTimeout from None

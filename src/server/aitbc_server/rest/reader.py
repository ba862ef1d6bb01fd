"""Whoever is sent an answer over HTTP: what is large of it counts until it is taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from aitbc_server.auth.unread import SMALL_BYTES, Unread
from aitbc_server.domain.caller import Caller
from aitbc_server.rest.asgi import Event, Response, Scope, Send, send_response

# Where a scope has what returns once its client has taken nearly all that was sent.
TAKEN = "aitbc.taken"
_NOBODY = Caller()


class Reader:
    """Sends what one request is answered."""

    def __init__(self, scope: Scope, send: Send, unread: Unread, caller: Caller = _NOBODY) -> None:
        # For whom it counts: until somebody was let in, there is nothing large to send.
        self.caller = caller
        # For what is small.
        self.send = send
        self._unread = unread
        self._taken: Callable[[], Awaitable[None]] | None = scope.get(TAKEN)

    def check(self) -> None:
        """Raises TooMuchUnread for who has to read first."""
        self._unread.check(self.caller)

    def held(self, size: int) -> AbstractContextManager[None]:
        """Counts what is kept for it for a while, if it is large. Raises TooMuchUnread."""
        return self._unread.held(self.caller, size) if size > SMALL_BYTES else nullcontext()

    async def respond(self, response: Response, *, with_body: bool) -> None:
        """Sends a whole response. Raises TooMuchUnread before anything is sent."""
        size = len(response.body) if with_body else 0
        if size <= SMALL_BYTES:
            await send_response(self.send, response, with_body=with_body)
            return
        with self._unread.held(self.caller, size):
            await send_response(self.send, response)
            await self._wait_taken()

    async def send_piece(self, event: Event) -> None:
        """Sends a part of a response, which may be large. Raises TooMuchUnread."""
        size = len(event["body"])
        if size <= SMALL_BYTES:
            await self.send(event)
            return
        with self._unread.held(self.caller, size):
            await self.send(event)
            await self._wait_taken()

    async def _wait_taken(self) -> None:
        # What is sent last is in the connection's buffer: nothing that follows would wait for it.
        if self._taken is not None:
            await self._taken()

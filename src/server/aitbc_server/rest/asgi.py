"""The ASGI names that the REST layer uses, and the one kind of response it sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, NamedTuple

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
# Names are in lower case.
Headers = Iterable[tuple[bytes, bytes]]

# Bytes that are sent at once.
_PIECE = 256 * 1024
_CONTENT_TYPE = (b"content-type", b"application/json")
# Of every answer of the API: it is for whoever asked, now, and is what it says that it is.
API_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


class Pieces:
    """A large body: each piece of it is let go once it is sent."""

    def __init__(self, pieces: deque[bytes]) -> None:
        self._pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        """Bytes that all of it has."""
        return self._size

    def take(self) -> Iterator[bytes]:
        """Yields the pieces, once."""
        while self._pieces:
            yield self._pieces.popleft()


class Response(NamedTuple):
    """A whole response."""

    status: int
    headers: Headers
    body: bytes | Pieces = b""

    @property
    def text(self) -> bytes:
        """The body in one piece; to be asked for once."""
        return b"".join(self.body.take()) if isinstance(self.body, Pieces) else self.body


def json_response(status: int, body: bytes | Pieces, headers: Headers = ()) -> Response:
    """Returns a response with a JSON text as its body."""
    length = (b"content-length", b"%d" % len(body))
    return Response(status, (_CONTENT_TYPE, length, *API_HEADERS, *headers), body)


async def send_response(send: Send, response: Response, *, with_body: bool = True) -> None:
    """Sends a response; without its body where the request was HEAD."""
    status, headers, body = response
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if not with_body:
        body = b""
    # What the client does not take waits here, and not whole in the connection's buffer.
    rest = b""
    for part in body.take() if isinstance(body, Pieces) else (body,):
        if rest:
            await send({"type": "http.response.body", "body": rest, "more_body": True})
        sent = 0
        while len(part) - sent > _PIECE:
            piece = part[sent : sent + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += _PIECE
        rest = part[sent:]
    await send({"type": "http.response.body", "body": rest})


def peer_of(scope: Scope) -> str:
    """Returns the address of who sent the request; empty where it has none."""
    client = scope.get("client")
    return client[0] if client else ""

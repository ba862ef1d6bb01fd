"""Compresses responses for clients that ask for it.

Whole ones alone: a stream is sent as it is made, and most of its events are too small to gain. What
is compressed together can be told by its size, which lets an attacker guess a secret that stands
beside words of its own (BREACH). Here nobody can have a browser make a call with another's key, and
so be answered with another's secrets: see docs/explanation/threat-model.md.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import Any

from aitbc_server.aside import by_size
from aitbc_server.rest.asgi import (
    AsgiApp,
    Event,
    Pieces,
    Receive,
    Response,
    Scope,
    Send,
    send_response,
)

# Below, a response fits into one packet anyway.
_LEAST_BYTES = 1024
# Of what is told as a text: each further level takes longer and saves little.
_LEVEL = 1
# Writes gzip, and not zlib.
_GZIP = 31
_KINDS = (
    b"application/json",
    b"application/proto",
    b"application/javascript",
    b"image/svg+xml",
    b"text/html",
    b"text/css",
    b"text/javascript",
    b"text/plain",
)
_NAMES = frozenset({b"gzip", b"x-gzip", b"*"})
# Of what a client says that it takes, at most.
_MOST_ASKED = 256
_Headers = Sequence[tuple[bytes, bytes]]


class Compressed:
    """An ASGI application in front of another one."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own, which would be made for every request.
        if scope["type"] == "http" and scope["method"] != "HEAD":
            said = dict(scope["headers"]).get(b"accept-encoding")
            if said is not None and _takes_gzip(said):
                send = _Packing(send).send
        return self._app(scope, receive, send)


class _Packing:
    """Sends one response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        # The head of a response that is collected, and its body, packed.
        self._head: Event | None = None
        self._packer: Any = None
        self._parts: deque[bytes] = deque()

    async def send(self, event: Event) -> None:
        """Sends an event, or keeps it until the response is whole."""
        if event["type"] == "http.response.start" and _gains(event["headers"]):
            self._head = event
            # Packs piece by piece: so no body is there whole beside what it was made of.
            self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        elif self._head is None:
            await self._send(event)
        else:
            piece = event.get("body", b"")
            self._parts.append(await by_size(len(piece), self._packer.compress, piece))
            if not event.get("more_body", False):
                self._parts.append(self._packer.flush())
                await self._send_packed(self._head, Pieces(self._parts))

    async def _send_packed(self, head: Event, packed: Pieces) -> None:
        headers = [
            *((name, value) for name, value in head["headers"] if name != b"content-length"),
            (b"content-length", b"%d" % len(packed)),
            (b"content-encoding", b"gzip"),
            (b"vary", b"accept-encoding"),
        ]
        await send_response(self._send, Response(head["status"], headers, packed))


@lru_cache(maxsize=64)
def _takes_gzip(said: bytes) -> bool:
    for coding in said[:_MOST_ASKED].lower().split(b","):
        name, _, weight = coding.partition(b";")
        if name.strip() in _NAMES:
            # A weight of nothing is a no.
            return not weight or bool(weight.partition(b"=")[2].strip(b" 0."))
    return False


def _gains(headers: _Headers) -> bool:
    """Returns whether a response is whole, and worth it."""
    told = dict(headers)
    # What has a tag is named by it as it is.
    if b"etag" in told or b"content-encoding" in told:
        return False
    kind = told.get(b"content-type", b"").partition(b";")[0]
    return int(told.get(b"content-length", 0)) >= _LEAST_BYTES and kind in _KINDS

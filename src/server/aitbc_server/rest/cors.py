"""Lets pages of other origins call the API, where the operator says which.

Without credentials: a page sends its key as a header, and no browser adds one by itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from aitbc_server.rest.asgi import (
    AsgiApp,
    Event,
    Headers,
    Receive,
    Response,
    Scope,
    Send,
    send_response,
)

_ANY = "*"
_PREFLIGHT: Headers = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-max-age", b"7200"),
    # A cache must not answer a question about other headers with this.
    (b"vary", b"access-control-request-headers"),
)
# Names of headers, as a page asks for them. Which they are does not matter: those that a page may
# not send are not asked for, and clients have many of their own, such as `x-stainless-lang`.
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")
# All of them: a star stands for that where there are no credentials.
_EXPOSED = (b"access-control-expose-headers", b"*")


class Cors:
    """An ASGI application in front of another one."""

    def __init__(self, app: AsgiApp, origins: Collection[str]) -> None:
        """`origins`: such as `https://app.example`, or `*` for all."""
        self._app = app
        self._takes_any = _ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        about = self._about(headers.get(b"origin"))
        is_allowed = len(about) > 1
        if (
            is_allowed
            and scope["method"] == "OPTIONS"
            and b"access-control-request-method" in headers
        ):
            asked = headers.get(b"access-control-request-headers", b"")
            may_send = (
                ((b"access-control-allow-headers", asked),) if _NAMES.fullmatch(asked) else ()
            )
            return await send_response(send, Response(204, (*about, *may_send, *_PREFLIGHT)))

        async def send_with_headers(event: Event) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", ()), *about]
            await send(event)

        return await self._app(scope, receive, send_with_headers)

    def _about(self, origin: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
        """Returns the headers about an origin; a single one when it is not allowed."""
        # A cache must not give one origin what another one was answered.
        vary = (b"vary", b"origin")
        if origin is None or not (self._takes_any or origin in self._origins):
            return (vary,)
        allowed = b"*" if self._takes_any else origin
        return vary, (b"access-control-allow-origin", allowed), _EXPOSED

"""What is served over HTTP beside the transcoded methods: pages, files, other dialects of JSON.

A mount takes the paths it names; what none takes goes to the REST layer. Mounts get the scope as it
came, and are asked in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aitbc_server.rest.asgi import (
    API_HEADERS,
    AsgiApp,
    Event,
    Receive,
    Response,
    Scope,
    Send,
    send_response,
)
from aitbc_server.rest.openapi.part import Part

# What an answer without a body does not say.
_OF_BODIES = (b"content-type", b"content-length")


@dataclass(frozen=True, slots=True)
class Mount:
    """An application at some paths."""

    # A path, or with a slash or a dot at its end everything that begins so.
    path: str
    app: AsgiApp
    # Whether the mount takes a request at its path; the others go on to the next.
    takes: Callable[[Scope], bool] | None = None
    # Where the document describes it. None for what is for people to look at.
    part: Part | None = None
    # Whether its requests are counted by its path; it counts them itself, where they are not.
    is_counted: bool = True


class Site:
    """An ASGI application that asks its mounts, and then the REST layer."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        rest: AsgiApp,
        calls: Counter[tuple[str, str]] | None = None,
        has_path: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """`calls` counts the requests that mounts take, by their path and the status.

        `has_path`: whether the REST layer has something at a path.
        """
        self._has_path = has_path
        self._rest = rest
        self._calls = Counter() if calls is None else calls
        self._exact: dict[str, list[Mount]] = {}
        self._below: list[Mount] = []
        # Their paths: most requests are below none, and are told so at once.
        self._paths_below: tuple[str, ...] = ()
        for mount in mounts:
            if mount.path.endswith(("/", ".")) and mount.path != "/":
                self._below.append(mount)
            else:
                self._exact.setdefault(mount.path, []).append(mount)
        self._paths_below = tuple(mount.path for mount in self._below)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own, which would be made for every request.
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.endswith("/"):
                return self._redirect_odd(scope, receive, send)
            may_be_mounted = path in self._exact or path.startswith(self._paths_below)
            if may_be_mounted or scope["method"] == "OPTIONS":
                return self._pass_on(scope, receive, send)
        return self._rest(scope, receive, send)

    async def _redirect_odd(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await self._is_odd(scope["path"]):
            await self._redirect(scope, send)
        else:
            await self._pass_on(scope, receive, send)

    def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path: str = scope["path"]
        if scope["method"] == "OPTIONS":
            send = _answering_options(send)
        for mount in self._exact.get(path, ()):
            if mount.takes is None or mount.takes(scope):
                return mount.app(scope, receive, self._counting(mount, send))
        for mount in self._below if path.startswith(self._paths_below) else ():
            if path.startswith(mount.path) and (mount.takes is None or mount.takes(scope)):
                return mount.app(scope, receive, self._counting(mount, send))
        return self._rest(scope, receive, send)

    async def _is_odd(self, path: str) -> bool:
        """Returns whether nothing is at a path, and something is at it without its last slash."""
        plain = path.rstrip("/")
        # Of a path that begins with two slashes the first part would be taken for a host.
        if path in self._exact or not plain or path[1] in "/\\":
            return False
        if any(path.startswith(mount.path) and mount.part is None for mount in self._below):
            # Pages have paths as they like.
            return False
        if plain in self._exact or plain.startswith(self._paths_below):
            return True
        has_path = self._has_path
        return has_path is not None and not await has_path(path) and await has_path(plain)

    async def _redirect(self, scope: Scope, send: Send) -> None:
        """Sends a client to the path without the slash, with the same method and body."""
        self._calls["", "307"] += 1
        raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        query: bytes = scope.get("query_string", b"")
        location = raw.rstrip(b"/") + (b"?" + query if query else b"")
        headers = ((b"location", location), (b"content-length", b"0"), *API_HEADERS)
        await send_response(send, Response(307, headers))

    def _counting(self, mount: Mount, send: Send) -> Send:
        if not mount.is_counted:
            return send

        async def count_and_send(event: Event) -> None:
            if event["type"] == "http.response.start":
                self._calls[mount.path.removeprefix("/api"), str(event["status"])] += 1
            await send(event)

        return count_and_send


def _answering_options(send: Send) -> Send:
    """Makes a refusal of OPTIONS the answer to it: the methods that the path takes."""
    is_refusal = False

    async def send_answer(event: Event) -> None:
        nonlocal is_refusal
        if event["type"] == "http.response.start":
            is_refusal = event["status"] == 405
            if is_refusal:
                headers = [header for header in event["headers"] if header[0] not in _OF_BODIES]
                event = {**event, "status": 204, "headers": headers}
        elif is_refusal:
            event = {**event, "body": b""}
        await send(event)

    return send_answer

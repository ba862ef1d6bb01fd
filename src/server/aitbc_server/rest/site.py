"""What is served over HTTP beside the transcoded methods: pages, files, other dialects of JSON.

A mount takes the paths it names; what none takes goes to the REST layer. Mounts get the scope as it
came, and are asked in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aitbc_server.rest.asgi import AsgiApp, Event, Receive, Scope, Send
from aitbc_server.rest.openapi.part import Part


@dataclass(frozen=True, slots=True)
class Mount:
    """An application at some paths."""

    # A path, or with a slash at its end everything below it.
    path: str
    app: AsgiApp
    # Whether the mount takes a request at its path; the others go on to the next.
    takes: Callable[[Scope], bool] | None = None
    # Where the document describes it. None for what is for people to look at.
    part: Part | None = None


class Site:
    """An ASGI application that asks its mounts, and then the REST layer."""

    def __init__(
        self, mounts: Sequence[Mount], rest: AsgiApp, calls: Counter[tuple[str, str]] | None = None
    ) -> None:
        """`calls` counts the requests that mounts take, by their path and the status."""
        self._rest = rest
        self._calls = Counter() if calls is None else calls
        self._exact: dict[str, list[Mount]] = {}
        self._below: list[Mount] = []
        # Their paths: most requests are below none, and are told so at once.
        self._paths_below: tuple[str, ...] = ()
        for mount in mounts:
            if mount.path.endswith("/") and mount.path != "/":
                self._below.append(mount)
            else:
                self._exact.setdefault(mount.path, []).append(mount)
        self._paths_below = tuple(mount.path for mount in self._below)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            for mount in self._exact.get(path, ()):
                if mount.takes is None or mount.takes(scope):
                    return await mount.app(scope, receive, self._counting(mount, send))
            for mount in self._below if path.startswith(self._paths_below) else ():
                if path.startswith(mount.path) and (mount.takes is None or mount.takes(scope)):
                    return await mount.app(scope, receive, self._counting(mount, send))
        return await self._rest(scope, receive, send)

    def _counting(self, mount: Mount, send: Send) -> Send:
        async def count_and_send(event: Event) -> None:
            if event["type"] == "http.response.start":
                self._calls[mount.path.removeprefix("/api"), str(event["status"])] += 1
            await send(event)

        return count_and_send

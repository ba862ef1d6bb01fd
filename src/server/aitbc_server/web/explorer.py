"""The explorer as an ASGI application: which page is at which path, and what each carries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

import orjson

from aitbc_server.api.endpoint import Endpoint
from aitbc_server.rest.asgi import Receive, Response, Scope, Send, send_response
from aitbc_server.rest.errors import RouteNotFound, error_response
from aitbc_server.rest.router import Router
from aitbc_server.rest.site import Mount
from aitbc_server.rest.template import parse
from aitbc_server.web import miners, overview
from aitbc_server.web.negotiation import wants_page
from aitbc_server.web.page import Page, Redirect, Show, Visit
from aitbc_server.web.reading import reader
from aitbc_server.web.rendering import Templates
from aitbc_server.web.static import StaticFiles

_STATIC = "/explorer/static/"
# Nothing on a page comes from elsewhere or is sent elsewhere, and no script is part of a page.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    # Programs get JSON at the same path.
    (b"vary", b"Accept"),
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
# A page is the same for everybody, so many who watch it cost one rendering in this time.
_FRESH_S = 1.0
_KEPT_PAGES = 256


class Explorer:
    """Answers browsers with pages, from what the services of this process say."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._read = reader(endpoints)
        self._static = StaticFiles()
        self._templates = Templates(self._static.version)
        self._overview = overview.Overview()
        self._kept: dict[str, tuple[float, Response]] = {}
        self._sampler: asyncio.Task[None] | None = None
        self._pages: Router[Show] = Router()
        for path, show in {
            "/explorer": self._overview.show,
            "/explorer/miners": miners.index,
            "/explorer/miners/{name}": miners.detail,
        }.items():
            self._pages.add("GET", parse(path), show)

    @property
    def mounts(self) -> list[Mount]:
        """Where the explorer stands among what is served over HTTP."""
        pages = [Mount(path, self, wants_page) for path in ("/", "/explorer", "/explorer/")]
        return [Mount(_STATIC, self._serve_static), *pages]

    def start(self) -> None:
        """Begins to watch the network."""
        self._sampler = asyncio.create_task(self._overview.watch(self._read))

    def stop(self) -> None:
        """Ends the watch."""
        if self._sampler is not None:
            self._sampler.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope)
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    async def _serve_static(self, scope: Scope, receive: Receive, send: Send) -> None:
        version, _, name = scope["path"][len(_STATIC) :].partition("/")
        response = self._static.response(version, name, dict(scope["headers"]))
        if response is None:
            response = error_response(RouteNotFound(), scope["path"])
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope) -> Response:
        path, query = _wire_path(scope), scope["query_string"].decode("latin-1")
        key = f"{path}?{query}"
        kept = self._kept.get(key)
        now = time.monotonic()
        if kept is not None and now - kept[0] < _FRESH_S:
            return kept[1]
        try:
            response = await self._show(path, query)
        except Exception as error:
            return self._error(error, path)
        if len(self._kept) >= _KEPT_PAGES:
            self._kept.clear()
        self._kept[key] = (now, response)
        return response

    async def _show(self, path: str, query: str) -> Response:
        # Path templates have no root.
        show, captures = self._pages.match("GET", "/explorer" if path == "/" else path)
        visit = Visit(name="".join(captures), query=dict(parse_qsl(query)))
        page = await show(self._read, visit)
        if isinstance(page, Redirect):
            root = "../" * (path.count("/") - 1) or "./"
            return Response(303, ((b"location", (root + page.path).encode()), *_HEADERS))
        return self._html(page, path)

    def _error(self, error: Exception, path: str) -> Response:
        told = error_response(error, path)
        page = Page(
            template="error.html",
            values={"status": told.status, **orjson.loads(told.body)},
            status=told.status,
        )
        response = self._html(page, path)
        retry = tuple(header for header in told.headers if header[0] == b"retry-after")
        return response._replace(headers=(*response.headers, *retry))

    def _html(self, page: Page, path: str) -> Response:
        body = self._templates.render(page, path)
        return Response(page.status, (*_HEADERS, (b"content-length", b"%d" % len(body))), body)


def _wire_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw else str(scope["path"])

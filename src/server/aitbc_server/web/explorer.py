"""The explorer as an ASGI application: which page is at which path, and what each carries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from aitbc_server.api.endpoint import Endpoint
from aitbc_server.auth.gate import Gate
from aitbc_server.domain.caller import Access
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.asgi import Receive, Response, Scope, Send, peer_of, send_response
from aitbc_server.rest.errors import HttpError, RouteNotFound, error_response
from aitbc_server.rest.route import compile_routes
from aitbc_server.rest.router import Router
from aitbc_server.rest.site import Mount
from aitbc_server.rest.template import parse
from aitbc_server.supervisor import Supervisor, end
from aitbc_server.web import (
    addresses,
    blocks,
    miners,
    overview,
    receipts,
    search,
    transactions,
)
from aitbc_server.web.negotiation import wants_page
from aitbc_server.web.page import Page, Redirect, Show, Visit
from aitbc_server.web.reading import reader
from aitbc_server.web.static import StaticFiles

if TYPE_CHECKING:
    from aitbc_server.web.rendering import Templates

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
# Every visit counts as a call of the visitor's network.
_PUBLIC = Access(is_public=True)
# A page is the same for everybody, so many who watch it cost one rendering in this time.
_FRESH_S = 0.25
_KEPT_PAGES = 256


class Explorer:
    """Answers browsers with pages, from what the services of this process say."""

    def __init__(self, endpoints: Mapping[str, Endpoint], gate: Gate) -> None:
        self._read = reader(endpoints)
        self._gate = gate
        self._data = compile_routes(endpoint.method for endpoint in endpoints.values())
        self._static = StaticFiles()
        self._templates: Templates | None = None
        self._overview = overview.Overview()
        self._kept: dict[str, tuple[float, Response]] = {}
        self._sampler: asyncio.Task[None] | None = None
        self._pages: Router[Show] = Router()
        for path, show in {
            "/explorer": self._overview.show,
            # Programs get the figures as JSON here.
            "/explorer/stats": self._overview.show,
            "/explorer/blocks": blocks.index,
            "/explorer/blocks/{name}": blocks.detail,
            "/explorer/transactions": transactions.index,
            "/explorer/transactions/{name}": transactions.detail,
            "/explorer/receipts": receipts.index,
            "/explorer/receipts/{name}": receipts.detail,
            "/explorer/addresses/{name}": addresses.detail,
            "/explorer/search": search.search,
            "/explorer/verify": receipts.verify,
            "/explorer/miners": miners.index,
            "/explorer/miners/{name}": miners.detail,
        }.items():
            self._pages.add("GET", parse(path), show)

    @property
    def mounts(self) -> list[Mount]:
        """Where the explorer stands among what is served over HTTP."""
        pages = [Mount(path, self, self._takes) for path in ("/", "/explorer", "/explorer/")]
        return [Mount(_STATIC, self._serve_static, _only_reads), *pages]

    def start(self, supervisor: Supervisor) -> None:
        """Begins to watch the network."""
        self._sampler = supervisor.keep("explorer", partial(self._overview.watch, self._read))

    async def stop(self) -> None:
        """Ends the watch."""
        if self._sampler is not None:
            await end([self._sampler])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope)
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    async def _serve_static(self, scope: Scope, receive: Receive, send: Send) -> None:
        version, _, name = scope["path"][len(_STATIC) :].partition("/")
        response = self._static.response(version, name, dict(scope["headers"]))
        if response is None:
            response = error_response(RouteNotFound(), scope["path"])
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    def _takes(self, scope: Scope) -> bool:
        path = _wire_path(scope)
        # What there is only as data is shown as data.
        return wants_page(scope) and (_has(self._pages, path) or not _has(self._data, path))

    async def _answer(self, scope: Scope) -> Response:
        path, query = _wire_path(scope), scope["query_string"].decode("latin-1")
        key = f"{path}?{query}"
        try:
            self._gate.admit(_PUBLIC, _headers(scope), peer_of(scope))
            kept = self._kept.get(key)
            now = time.monotonic()
            if kept is not None and now - kept[0] < _FRESH_S:
                return kept[1]
            response = await self._show(path, query)
        except Exception as error:
            return await self._error(error, path)
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
        return await self._html(page, path)

    async def _error(self, error: Exception, path: str) -> Response:
        told = error_response(error, f"GET {path}")
        page = Page(
            template="error.html",
            values={"status": told.status, **orjson.loads(told.text)},
            status=told.status,
        )
        response = await self._html(page, path)
        retry = tuple(header for header in told.headers if header[0] == b"retry-after")
        return response._replace(headers=(*response.headers, *retry))

    async def _html(self, page: Page, path: str) -> Response:
        if self._templates is None:
            self._templates = await asyncio.to_thread(self._load_templates)
        body = self._templates.render(page, path)
        return Response(page.status, (*_HEADERS, (b"content-length", b"%d" % len(body))), body)

    def _load_templates(self) -> Templates:
        # Here, for the first visit, on a thread beside the loop: a start does not wait for it.
        from aitbc_server.web.rendering import Templates

        return Templates(self._static.version)


def _has(router: Router[Any], path: str) -> bool:
    try:
        router.match("GET", path)
    except (HttpError, InvalidArgument):
        return False
    return True


def _only_reads(scope: Scope) -> bool:
    return scope["method"] in {"GET", "HEAD"}


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _wire_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw else str(scope["path"])

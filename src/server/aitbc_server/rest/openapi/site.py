"""What shows the document over HTTP: the JSON, and a page that reads it and tries calls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

import orjson
from google.protobuf.descriptor import MethodDescriptor

from aitbc_server.aside import aside
from aitbc_server.rest.asgi import (
    AsgiApp,
    Headers,
    Receive,
    Response,
    Scope,
    Send,
    json_response,
    send_response,
)
from aitbc_server.rest.backend import Backend
from aitbc_server.rest.errors import MethodNotAllowed, error_response
from aitbc_server.rest.openapi.document import document
from aitbc_server.rest.openapi.part import Part
from aitbc_server.rest.site import Mount

_PREFIXES = ("", "/api")
_TYPES = {"js": b"text/javascript; charset=utf-8", "css": b"text/css; charset=utf-8"}
# Swagger UI styles its elements directly; nothing else may come from elsewhere.
_PAGE_HEADERS: Headers = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
)


def openapi_mounts(
    backend: Backend, *, is_key_required: bool, beside: Sequence[Mount] = ()
) -> list[Mount]:
    """Returns the mounts of `/openapi.json` and `/docs`, and of the same below `/api`.

    `beside`: the other mounts, which the document describes too.
    """
    parts = tuple(dict.fromkeys(mount.part for mount in beside if mount.part is not None))
    mounts: list[Mount] = []
    for prefix in _PREFIXES:
        # The server that the document was read from goes first.
        servers = [prefix or "/", *(other or "/" for other in _PREFIXES if other != prefix)]
        document_app = _Document(
            backend, is_key_required=is_key_required, parts=parts, servers=servers
        )
        mounts += [
            Mount(f"{prefix}/openapi.json", document_app),
            Mount(f"{prefix}/docs", _file("docs.html", _PAGE_HEADERS)),
        ]
        mounts += [
            Mount(f"{prefix}/docs/{name}", _file(name, _headers(name)))
            for name in ("docs.js", "swagger-ui-bundle.js", "swagger-ui.css")
        ]
    return mounts


class _Document:
    """The document of the backend's methods, made again when these change."""

    def __init__(
        self,
        backend: Backend,
        *,
        is_key_required: bool,
        parts: Sequence[Part],
        servers: Sequence[str],
    ) -> None:
        self._backend = backend
        self._parts = parts
        self._is_key_required = is_key_required
        self._servers = servers
        self._methods: Sequence[MethodDescriptor] = ()
        self._body = b""
        # It takes some tenths of a second: those who come meanwhile wait for the same one.
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _require_get(scope)
            response = json_response(200, await self._current())
        except Exception as error:
            response = error_response(error, scope["path"])
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    async def _current(self) -> bytes:
        methods = await self._backend.methods()
        if methods is not self._methods:
            async with self._making:
                if methods is not self._methods:
                    self._body, self._methods = await aside(self._made, methods), methods
        return self._body

    def _made(self, methods: Sequence[MethodDescriptor]) -> bytes:
        made = document(
            methods,
            is_key_required=self._is_key_required,
            parts=self._parts,
            servers=self._servers,
        )
        return orjson.dumps(made)


def _file(name: str, headers: Headers) -> AsgiApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _require_get(scope)
            response = _unless_known(*_content(name), headers, scope)
        except MethodNotAllowed as error:
            response = error_response(error, name)
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    return app


@cache
def _content(name: str) -> tuple[bytes, bytes]:
    """Returns a file and its entity tag."""
    body = (resources.files(__package__) / "swagger_ui" / name).read_bytes()
    return body, b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()


def _unless_known(body: bytes, tag: bytes, headers: Headers, scope: Scope) -> Response:
    known = ((b"etag", tag), (b"cache-control", b"no-cache"))
    headers = (*headers, *known, (b"x-content-type-options", b"nosniff"))
    if dict(scope["headers"]).get(b"if-none-match") == tag:
        return Response(304, headers)
    return Response(200, (*headers, (b"content-length", b"%d" % len(body))), body)


def _headers(name: str) -> Headers:
    return ((b"content-type", _TYPES[name.rpartition(".")[2]]),)


def _require_get(scope: Scope) -> None:
    if scope["method"] not in {"GET", "HEAD"}:
        raise MethodNotAllowed(["GET"])

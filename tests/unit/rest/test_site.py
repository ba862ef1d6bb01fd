"""Mounts take the paths they name, and the REST layer gets the rest."""

from __future__ import annotations

from collections import Counter
from urllib.parse import unquote

import pytest

from aitbc_server.rest.asgi import AsgiApp, Event, Receive, Scope, Send, send_response
from aitbc_server.rest.errors import MethodNotAllowed, error_response
from aitbc_server.rest.openapi.part import Contents, Part
from aitbc_server.rest.site import Mount, Site


def _app(name: str, asked: list[str]) -> AsgiApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(name)

    return app


async def _receive() -> Event:
    raise AssertionError("nobody reads here")


async def _send(event: Event) -> None:
    raise AssertionError("nobody answers here")


def _wants_html(scope: Scope) -> bool:
    return (b"accept", b"text/html") in scope["headers"]


@pytest.mark.parametrize(
    ("path", "accept", "expected"),
    [
        ("/", b"text/html", "home"),
        ("/", b"*/*", "rest"),
        ("/docs", b"*/*", "docs"),
        ("/static/a/b.css", b"*/*", "static"),
        ("/static", b"*/*", "rest"),
        ("/explorer/blocks", b"text/html", "pages"),
        ("/explorer/blocks", b"application/json", "rest"),
        ("/v1/jobs", b"text/html", "rest"),
        ("/some.v1.Service/Method", b"*/*", "methods"),
        ("/some.v2.Service/Method", b"*/*", "rest"),
    ],
)
async def test_a_request_reaches_the_first_that_takes_it(
    path: str, accept: bytes, expected: str
) -> None:
    asked: list[str] = []
    site = Site(
        [
            Mount("/", _app("home", asked), _wants_html),
            Mount("/docs", _app("docs", asked)),
            Mount("/static/", _app("static", asked)),
            Mount("/explorer/", _app("pages", asked), _wants_html),
            Mount("/some.v1.", _app("methods", asked)),
        ],
        _app("rest", asked),
    )
    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"accept", accept)]}
    await site(scope, _receive, _send)
    assert asked == [expected]


@pytest.mark.parametrize("is_counted", [True, False])
async def test_requests_are_counted_by_their_mount_or_by_itself(is_counted: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_response(send, error_response(MethodNotAllowed(["GET"]), ""))

    async def send(event: Event) -> None:
        pass

    calls: Counter[tuple[str, str]] = Counter()
    site = Site([Mount("/api/x", app, is_counted=is_counted)], app, calls)
    await site({"type": "http", "method": "POST", "path": "/api/x", "headers": []}, _receive, send)
    assert calls == ({("/x", "405"): 1} if is_counted else {})


async def test_other_kinds_of_connections_go_to_the_rest_layer() -> None:
    asked: list[str] = []
    await Site([], _app("rest", asked))({"type": "lifespan"}, _receive, _send)
    assert asked == ["rest"]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/docs/", "/docs"),
        ("/docs///", "/docs"),
        ("/static/a.css/", None),
        ("/v1/models/", "/v1/models"),
        ("/v1/models/a/b/", "/v1/models/a/b"),
        ("/v1/jobs/", "/v1/jobs"),
        ("/v1/caf%C3%A9/", "/v1/caf%C3%A9"),
        # What has nothing without the slash either, and what is at a path with it.
        ("/nothing/", None),
        ("/pages/", None),
        ("/", None),
        # Not where a browser would take the rest for a host.
        ("//docs/", None),
        ("/\\docs/", None),
    ],
)
async def test_a_slash_too_many_is_told_where_to_go(path: str, location: str | None) -> None:
    asked: list[str] = []
    sent: list[Event] = []

    async def has_path(path: str) -> bool:
        return path in ("/v1/jobs", "/v1/caf\xe9", "//docs", "/\\docs")

    async def send(event: Event) -> None:
        sent.append(event)

    mounts = [Mount(path, _app(path, asked)) for path in ("/docs", "/static/", "/pages/")]
    part = Part("Models", "", lambda: Contents({}, {}))
    mounts += [Mount(path, _app(path, asked), part=part) for path in ("/v1/models", "/v1/models/")]
    site = Site(mounts, _app("rest", asked), has_path=has_path)
    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"a=1",
        "headers": [],
    }
    await site(scope, _receive, send)
    if location is None:
        assert asked
        assert not sent
        return
    assert not asked
    assert sent[0]["status"] == 307
    assert dict(sent[0]["headers"])[b"location"] == f"{location}?a=1".encode()


async def test_options_of_a_mount_tells_what_its_path_takes() -> None:
    sent: list[Event] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_response(send, error_response(MethodNotAllowed(["GET"]), scope["path"]))

    async def send(event: Event) -> None:
        sent.append(event)

    site = Site([Mount("/file", app)], _app("rest", []))
    for method, status in (("OPTIONS", 204), ("POST", 405)):
        sent.clear()
        scope = {"type": "http", "method": method, "path": "/file", "headers": []}
        await site(scope, _receive, send)
        headers = dict(sent[0]["headers"])
        assert (sent[0]["status"], headers[b"allow"]) == (status, b"GET, HEAD, OPTIONS")
        assert (b"content-type" in headers) == bool(sent[1]["body"]) == (status == 405)

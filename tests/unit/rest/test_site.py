"""Mounts take the paths they name, and the REST layer gets the rest."""

from __future__ import annotations

import pytest

from aitbc_server.rest.asgi import AsgiApp, Event, Receive, Scope, Send
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
        ("/docs/", b"*/*", "rest"),
        ("/static/a/b.css", b"*/*", "static"),
        ("/static", b"*/*", "rest"),
        ("/explorer/blocks", b"text/html", "pages"),
        ("/explorer/blocks", b"application/json", "rest"),
        ("/v1/jobs", b"text/html", "rest"),
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
        ],
        _app("rest", asked),
    )
    scope = {"type": "http", "path": path, "headers": [(b"accept", accept)]}
    await site(scope, _receive, _send)
    assert asked == [expected]


async def test_other_kinds_of_connections_go_to_the_rest_layer() -> None:
    asked: list[str] = []
    await Site([], _app("rest", asked))({"type": "lifespan"}, _receive, _send)
    assert asked == ["rest"]

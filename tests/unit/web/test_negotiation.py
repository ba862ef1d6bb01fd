from __future__ import annotations

from typing import Any

import pytest

from aitbc_server.web.negotiation import wants_page

CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;"
    "q=0.8,application/signed-exchange;v=b3;q=0.7"
)


def asked(accept: str | None, method: str = "GET") -> bool:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/", "headers": headers}
    return wants_page(scope)


@pytest.mark.parametrize(
    "accept",
    [
        CHROMIUM,
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "application/json;q=0, text/html;q=0.1",
        "text/html;q=0, application/xhtml+xml",
    ],
)
def test_browsers_get_pages(accept: str) -> None:
    assert asked(accept)
    assert asked(accept, "HEAD")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "text/*",
        "application/json",
        "application/json, text/plain, */*",
        "application/json, text/html;q=0.9",
        "text/html;q=0",
        "text/html;q=0, */*",
        "text/html; q=0.0, application/xhtml+xml;q=0",
        "text/html;q=0.5, */*",
        "text/html;q=many",
        "text/event-stream",
    ],
)
def test_programs_get_data(accept: str | None) -> None:
    assert not asked(accept)


def test_a_page_is_only_read() -> None:
    assert not asked("text/html", "POST")

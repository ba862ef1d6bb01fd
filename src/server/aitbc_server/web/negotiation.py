"""Which requests want a page: browsers say so in `Accept`, and programs do not."""

from __future__ import annotations

from aitbc_server.rest.accept import asks_for
from aitbc_server.rest.asgi import Scope

_PAGES = ("text/html", "application/xhtml+xml")
_DATA = ("application/json", "text/event-stream", "application/x-ndjson")


def wants_page(scope: Scope) -> bool:
    """Says whether a request asks for HTML by its name, and at least as much as for data."""
    if scope["method"] not in {"GET", "HEAD"}:
        return False
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return asks_for(accept.decode("latin-1"), _PAGES, over=_DATA)

"""Which requests want a page: browsers say so in `Accept`, and programs do not."""

from __future__ import annotations

from aitbc_server.rest.asgi import Scope

_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_DATA = frozenset({"application/json", "text/event-stream", "application/x-ndjson"})


def wants_page(scope: Scope) -> bool:
    """Says whether a request asks for HTML by its name, and at least as much as for data."""
    if scope["method"] not in {"GET", "HEAD"}:
        return False
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    weights = dict(map(_weighed, accept.decode("latin-1").split(",")))
    page = max(weights.get(kind, 0.0) for kind in _PAGES)
    return page > 0 and page >= max(weights.get(kind, 0.0) for kind in _DATA)


def _weighed(item: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in item.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return kind, float(parameter[2:])
            except ValueError:
                return kind, 0.0
    return kind, 1.0

"""Pages of what a response was asked."""

from __future__ import annotations

from typing import Any

from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.query import ItemsQuery
from aitbc_server.openai.response_items import Item


def page_of(items: list[Item], query: ItemsQuery) -> dict[str, Any]:
    """Returns a page of items, which are in the order of time. Raises OpenAIError."""
    items = items if query.order == "asc" else items[::-1]
    if query.after:
        places = [place for place, item in enumerate(items) if item["id"] == query.after]
        if not places:
            raise OpenAIError(
                400,
                f"Invalid 'after': the list has no item '{query.after}'.",
                code="invalid_value",
                param="after",
            )
        items = items[places[0] + 1 :]
    page = items[: query.limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    }

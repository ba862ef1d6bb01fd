"""What the explorer is asked for, and what its pages are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

# Answers a request message by the method that takes it. Raises domain errors.
Read = Callable[[Message], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request for a page."""

    # What the path names, such as the height of a block.
    name: str
    # Value of each query parameter; the last one of those that repeat.
    query: Mapping[str, str]

    @property
    def page_token(self) -> str:
        """Where a list goes on; empty on its first page."""
        return self.query.get("page_token", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A template and what it shows."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


def listing(template: str, visit: Visit, items: Sequence[Any], after: str, **values: Any) -> Page:
    """Returns a page with a part of a list; `after` is the token of what comes after it."""
    return Page(
        template=template,
        values={**values, "items": items, "next": after, "token": visit.page_token},
    )


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another page to go to, by its path from the root, without a slash before it."""

    path: str


Show = Callable[[Read, Visit], Awaitable[Page | Redirect]]

"""Pages of lists: each holds as many items as were asked for, and as clients of gRPC take at once.

What a list may return is told by its last item, whichever of the two bounds ended the page: what
was found beyond it is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from aitbc_server.domain import sizes

_Found = TypeVar("_Found")
_Item = TypeVar("_Item", bound=Message)

# Tag and length of an item.
_AROUND_BYTES = 8


class Page(NamedTuple, Generic[_Item, _Found]):
    """One page."""

    items: list[_Item]
    # What the next page comes after; None where there is none.
    last: _Found | None


class Room:
    """What is left of a page's bytes."""

    def __init__(self) -> None:
        self._left = sizes.PAGE_BYTES
        self._is_empty = True

    def takes(self, item: Message) -> bool:
        """Takes an item; says whether it fits. The first one does: a page has one at least."""
        self._left -= item.ByteSize() + _AROUND_BYTES
        fits = self._is_empty or self._left >= 0
        self._is_empty = False
        return fits


def page_of(
    found: Sequence[_Found], limit: int, message: Callable[[_Found], _Item]
) -> Page[_Item, _Found]:
    """Returns the page that begins with what was found: one more than the limit, if there are."""
    room = Room()
    items: list[_Item] = []
    for one in found[:limit]:
        item = message(one)
        if not room.takes(item):
            break
        items.append(item)
    return Page(items, found[len(items) - 1] if len(items) < len(found) else None)

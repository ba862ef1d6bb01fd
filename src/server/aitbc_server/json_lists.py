"""Long lists as JSON, of which only a part is held as objects at a time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson

# Items that are held as objects.
_PART = 256


def json_list(items: Iterable[Any]) -> list[Any] | orjson.Fragment:
    """Returns what `orjson.dumps` writes as a list of the items: these, when they are few."""
    left = iter(items)
    part = list(islice(left, _PART))
    if len(part) < _PART:
        return part
    written = [b"["]
    while part:
        written += (orjson.dumps(part)[1:-1], b",")
        part = list(islice(left, _PART))
    written[-1] = b"]"
    return orjson.Fragment(b"".join(written))

"""The canonical bytes of what is signed and hashed: JSON by RFC 8785 (JCS).

orjson writes the same bytes as RFC 8785 for what the ledger holds: objects with ASCII names, lists,
strings and integers below 2**53. Everything else is refused. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

_LARGEST = 2**53


def canonical(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Returns the canonical bytes of an object or a list that this program made."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def parse(data: bytes) -> dict[str, Any]:
    """Returns the object that the bytes are the canonical form of. Raises ValueError."""
    value = orjson.loads(data)
    if type(value) is not dict:
        raise ValueError("is not a JSON object")
    check(value)
    if canonical(value) != data:
        raise ValueError("is not in canonical form")
    return value


def check(value: Any) -> None:
    """Raises ValueError when the value holds what canonical JSON here does not."""
    if type(value) is str:
        return
    if type(value) is int:
        if not -_LARGEST < value < _LARGEST:
            raise ValueError("holds an integer beyond 2**53")
    elif type(value) is list:
        for item in value:
            check(item)
    elif type(value) is dict:
        for name, item in value.items():
            if not name.isascii():
                raise ValueError("holds a name that is not ASCII")
            check(item)
    else:
        raise ValueError(f"holds a value of type {type(value).__name__}")

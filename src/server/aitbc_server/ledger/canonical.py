"""The canonical bytes of what is signed and hashed: JSON by RFC 8785 (JCS).

orjson writes the same bytes as RFC 8785 for what the ledger holds: objects with ASCII names, lists,
strings and integers below 2**53. Everything else is refused. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    _check_names(value)
    _check(value.values())
    if canonical(value) != data:
        raise ValueError("is not in canonical form")
    return value


def _check(values: Iterable[Any]) -> None:
    """Raises ValueError when one of the values is what canonical JSON here does not have."""
    for value in values:
        kind = type(value)
        # Most are: this is what a whole ledger goes through.
        if kind is str:
            continue
        if kind is int:
            if not -_LARGEST < value < _LARGEST:
                raise ValueError("holds an integer beyond 2**53")
        elif kind is list:
            _check(value)
        elif kind is dict:
            _check_names(value)
            _check(value.values())
        else:
            raise ValueError(f"holds a value of type {kind.__name__}")


def _check_names(value: Mapping[str, Any]) -> None:
    if not "".join(value).isascii():
        raise ValueError("holds a name that is not ASCII")

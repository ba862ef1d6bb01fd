"""JSON that requests hold as texts, for the engine that reads it: what it must be."""

from __future__ import annotations

from typing import Any

from aitbc_server.bounded_json import JsonError, read_json
from aitbc_server.domain.errors import InvalidArgument

# Names and values of one text.
_PARTS = 10_000


def check_object(field: str, text: str) -> dict[str, Any]:
    """Returns the object that a text is. Raises InvalidArgument."""
    value = _read(field, text)
    if not isinstance(value, dict):
        raise InvalidArgument(field, "must be a JSON object, as a text")
    return value


def check_objects(field: str, text: str) -> None:
    """Raises InvalidArgument unless a text is a list of objects."""
    value = _read(field, text)
    if not isinstance(value, list):
        raise InvalidArgument(field, "must be a JSON list of objects, as a text")
    for place, one in enumerate(value):
        if not isinstance(one, dict):
            raise InvalidArgument(f"{field}[{place}]", "must be an object")


def _read(field: str, text: str) -> Any:
    try:
        return read_json(text.encode(), most_parts=_PARTS)
    except JsonError as error:
        raise InvalidArgument(field, str(error)) from None

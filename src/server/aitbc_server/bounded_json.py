"""JSON from outside: read with a bound on its depth and on what it holds, and no name twice.

What a text holds counts for more than its size: 8 MiB of `[{},{},...]` take a second to read and
more memory than anything that is worth saying.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# Objects and lists within each other: more than anything that a request says needs.
MOST_DEPTH = 32
# Names and values of a text together. A batch of 1,000 jobs may use 100 for each.
MOST_PARTS = 100_000

# Of numbers in a list, such as the tokens of a prompt, so many count as one part.
_NUMBERS_EACH = 4

# What begins a part. A text of fewer bytes than `most_parts` cannot have too many.
_MARKS = (b",", b":", b"[", b"{")
# A list of numbers.
_NUMBERS = re.compile(rb"\[[-+.0-9eE,\s]*\]")


class JsonError(ValueError):
    """A text that is no JSON, or more of it than is taken. `str(error)` follows its name."""


def read_json(text: bytes, *, most_parts: int = MOST_PARTS) -> Any:
    """Returns the value that a text is. Raises JsonError."""
    if len(text) > most_parts and _parts(text, most_parts) > most_parts:
        raise JsonError(f"holds more than {most_parts:,} names and values")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise JsonError(f"is not valid JSON: {error}") from None
    if type(value) is dict or type(value) is list:
        members = _members(value, MOST_DEPTH)
        # Colons in texts are looked for only where there are any.
        if members != text.count(b":") and members != _outside(text).count(b":"):
            raise JsonError(f"has the name {_repeated(text)!r} twice in one object")
    return value


def _parts(text: bytes, most: int) -> int:
    """Returns how many names and values a text has; of one with more than `most`, any above it."""
    marks = sum(map(text.count, _MARKS))
    if marks <= most:
        return marks
    # Most marks are those of sentences, or there are too many indeed.
    strings = _without_escapes(text).count(b'"') // 2
    if strings > most:
        return strings
    outside = _outside(text)
    commas = outside.count(b",")
    others = sum(map(outside.count, _MARKS)) - commas
    if others > most:
        return others
    numbers = sum(one.group().count(b",") for one in _NUMBERS.finditer(outside))
    return others + commas - numbers + numbers // _NUMBERS_EACH


def _outside(text: bytes) -> bytes:
    """Returns what is not within strings, with a quote for each of these."""
    return b'"'.join(_without_escapes(text).split(b'"')[::2])


def _without_escapes(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    # The pairs first: the quote after one ends its string.
    return text.replace(b"\\\\", b"").replace(b'\\"', b"")


def _members(value: Any, room: int) -> int:
    """Returns the number of members that all objects of a value have. Raises JsonError."""
    if not room:
        raise JsonError(f"is nested more than {MOST_DEPTH} levels deep")
    found = 0
    if type(value) is dict:
        found, value = len(value), value.values()
    for held in value:
        if type(held) is dict or type(held) is list:
            found += _members(held, room - 1)
    return found


def _repeated(text: bytes) -> str:
    """Returns the first name that an object has twice."""

    def check(members: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in members:
            if name in names:
                raise _Repeated(name)
            names.add(name)

    try:
        json.loads(text, object_pairs_hook=check)
    except _Repeated as found:
        return str(found)[:100]
    return ""


class _Repeated(Exception):
    """Ends the search for a name."""

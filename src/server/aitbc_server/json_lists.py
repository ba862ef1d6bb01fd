"""Large values as JSON: written part by part, for a single call of orjson lets nobody else run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import orjson

# Items that are held as objects, or written at once.
_PART = 256
# Characters that are written at once, of which JSON may make six times as many bytes.
_MOST_CHARACTERS = 64 * 1024
# Bytes of a piece, about.
_PIECE = 256 * 1024
_MOST_PARTS = 1024
# Characters of a text that is written with others: what orjson writes alone takes a KiB at least.
_SHORT = 1024


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


def json_pieces(value: Any) -> deque[bytes]:
    """Returns what `orjson.dumps` writes, in pieces."""
    writer = _Writer()
    writer.write(value)
    return writer.end()


def _is_small(value: Any) -> bool:
    kind = type(value)
    return kind is int or kind is float or (kind is str and len(value) <= _SHORT)


class _Writer:
    """Writes one value."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        # The piece that is being made.
        self._parts: list[bytes] = []
        self._size = 0

    def end(self) -> deque[bytes]:
        """Returns what was written."""
        self._close()
        return self._pieces

    def write(self, value: Any) -> None:
        """Writes more."""
        kind = type(value)
        if kind is dict:
            self._write_object(value)
        elif kind is list or kind is tuple:
            self._write_list(value)
        elif kind is str and len(value) > _MOST_CHARACTERS:
            self._add(b'"')
            for begin in range(0, len(value), _MOST_CHARACTERS):
                self._add(orjson.dumps(value[begin : begin + _MOST_CHARACTERS])[1:-1])
            self._add(b'"')
        else:
            self._add(orjson.dumps(value))

    def _write_object(self, members: dict[str, Any]) -> None:
        before = b"{"
        for name, value in members.items():
            self._add(before + orjson.dumps(name) + b":")
            self.write(value)
            before = b","
        self._add(b"}" if members else b"{}")

    def _write_list(self, items: Sequence[Any]) -> None:
        before = b"["
        for begin in range(0, len(items), _PART):
            part = items[begin : begin + _PART]
            if all(map(_is_small, part)):
                self._add(before + orjson.dumps(part)[1:-1])
                before = b","
                continue
            for item in part:
                self._add(before)
                self.write(item)
                before = b","
        self._add(b"]" if items else b"[]")

    def _add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _PIECE or len(self._parts) > _MOST_PARTS:
            self._close()

    def _close(self) -> None:
        if self._parts:
            self._pieces.append(b"".join(self._parts))
            self._parts, self._size = [], 0

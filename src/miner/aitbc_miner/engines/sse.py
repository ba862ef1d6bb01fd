"""Reads server-sent events by the rules of the HTML standard, however their bytes are cut."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aitbc_miner.errors import EngineAnswerInvalid

# Bytes of one line, and of the data of one event.
MOST_BYTES = 2**23
# No other character ends a line, U+2028 and U+0085 least of all.
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventReader:
    """Gives the data of each event as soon as its end has come."""

    def __init__(self) -> None:
        # The line that has not ended, in pieces: each byte is looked at once.
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[str] = []
        self._data_bytes = 0
        # Whether the last piece ended with CR: a LF that follows belongs to it.
        self._is_after_cr = False
        self._is_first = True

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yields the data of the events that end here. Raises EngineAnswerInvalid."""
        if not piece:
            return
        if self._is_after_cr and piece[:1] == b"\n":
            piece = piece[1:]
        self._is_after_cr = piece[-1:] == b"\r"
        *lines, rest = _LINE_END.split(piece)
        for line in lines:
            self._keep(line)
            yield from self._end_line()
        self._keep(rest)

    def end(self) -> Iterator[str]:
        """Yields the event that had no blank line after it, where a server forgot that."""
        yield from self._end_line()
        yield from self._end_event()

    def _keep(self, part: bytes) -> None:
        if part:
            self._line.append(part)
            self._line_bytes += len(part)
            self._bound(self._line_bytes)

    def _end_line(self) -> Iterator[str]:
        line = b"".join(self._line)
        self._line.clear()
        self._line_bytes = 0
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            yield from self._end_event()
            return
        # A comment has an empty name; `event`, `id` and `retry` say nothing about an answer.
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data_bytes += len(value)
            self._bound(self._data_bytes)
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))

    def _end_event(self) -> Iterator[str]:
        if self._data:
            data = "\n".join(self._data)
            self._data.clear()
            self._data_bytes = 0
            yield data

    def _bound(self, size: int) -> None:
        if size > MOST_BYTES:
            raise EngineAnswerInvalid(f"the server sent an event of more than {MOST_BYTES} bytes")

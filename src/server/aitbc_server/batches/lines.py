"""Reads the lines of a file bit by bit, however long the file or one of its lines is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class FileLine(NamedTuple):
    """A line that is not blank."""

    # From 1.
    number: int
    offset: int
    # Without its end.
    size: int
    # None of one that is longer than is read.
    text: bytes | None


class LineReader:
    """The lines from a place in a file on."""

    def __init__(
        self,
        content: Callable[[int], Awaitable[bytes]],
        *,
        offset: int = 0,
        number: int = 0,
        most_bytes: int,
    ) -> None:
        """`content` returns some of the file from a place on, and nothing at its end.

        `number`: of the line before the place. Of a line, at most `most_bytes` are kept.
        """
        self._content = content
        self._most_bytes = most_bytes
        # Up to where lines were returned: what a later reader goes on from.
        self.offset = offset
        self.number = number
        self.is_at_end = False
        # What was read, and up to where it was looked at.
        self._read = b""
        self._place = 0

    async def some(self, most_lines: int, most_bytes: int) -> list[FileLine]:
        """Returns the next lines: at least one, unless there are none.

        No more once they have so many bytes together.
        """
        lines: list[FileLine] = []
        size = 0
        while len(lines) < most_lines and size < most_bytes and not self.is_at_end:
            self._skip_blank()
            line = await self._next()
            if line is not None:
                lines.append(line)
                size += line.size
        return lines

    def _skip_blank(self) -> None:
        """Leaves out the blank lines that were read, in one step: there may be millions."""
        if self._read[self._place : self._place + 1].isspace():
            rest = self._read[self._place :]
            end = rest.rfind(b"\n", 0, len(rest) - len(rest.lstrip())) + 1
            self.number += rest.count(b"\n", 0, end)
            self.offset += end
            self._place += end

    async def _next(self) -> FileLine | None:
        """Returns the next line, or nothing for a blank one and at the end."""
        begin, size = self.offset, 0
        parts: list[bytes] = []
        while True:
            end = self._read.find(b"\n", self._place)
            stop = len(self._read) if end < 0 else end
            # Of a line that is too long, only the size is known.
            if size + stop - self._place <= self._most_bytes:
                parts.append(self._read[self._place : stop])
            size += stop - self._place
            if end >= 0:
                self._place = end + 1
                self.offset = begin + size + 1
                break
            self._read, self._place = await self._content(begin + size), 0
            if not self._read:
                self.offset = begin + size
                self.is_at_end = True
                break
        self.number += 1
        text = b"".join(parts) if size <= self._most_bytes else None
        if text is not None and not text.removeprefix(b"" if begin else _BOM).strip():
            return None
        return FileLine(self.number, begin, size, text)

"""Where a reader is in the text of a job.

A position is told as `OFFSET-CHECKSUM`: the bytes of UTF-8 that the reader has, and their CRC-32,
by which a reader that comes back is known to have the beginning of this text and not of another
one, from an attempt whose text became void. After the end it is `OFFSET-CHECKSUM-final`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

_FORM = re.compile(r"(0|[1-9][0-9]{0,15})-([0-9a-f]{8})(-final)?")


class Position(NamedTuple):
    """A place between two characters."""

    # Bytes of UTF-8 before it.
    offset: int = 0
    # CRC-32 of these bytes; None when the reader did not say.
    checksum: int | None = 0
    # Whether the reader was told that nothing more comes.
    is_final: bool = False

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads what `str` wrote. Raises ValueError."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError("is not the id of an event of this stream")
        return cls(int(match[1]), int(match[2], 16), match[3] is not None)

    def __str__(self) -> str:
        return f"{self.offset}-{self.checksum or 0:08x}{'-final' if self.is_final else ''}"

    def within(self, text: bytes | bytearray) -> Position | None:
        """Returns the position with its checksum, or None when the reader has another text.

        A reader that gave no checksum is believed. Raises ValueError when its offset is no place in
        this text.
        """
        if self.offset > len(text):
            if self.checksum is None:
                raise ValueError("is beyond the end of the text")
            return None
        if self.offset < len(text) and text[self.offset] & 0xC0 == 0x80 and self.checksum is None:
            raise ValueError("is inside a character: offsets count bytes of UTF-8")
        checksum = crc32(memoryview(text)[: self.offset])
        if self.checksum is not None and self.checksum != checksum:
            return None
        return Position(self.offset, checksum)

    def advanced(self, piece: bytes) -> Position:
        """Returns the position after one more piece of text."""
        return Position(self.offset + len(piece), crc32(piece, self.checksum or 0))


START = Position()

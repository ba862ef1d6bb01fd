"""Where a reader is in what a job says: in its text, and in the reasoning before it.

A position is told as `OFFSET-CHECKSUM`: the bytes of UTF-8 that the reader has of the text, and
their CRC-32, by which a reader that comes back is known to have the beginning of this text and not
of another one, from an attempt whose text became void. Of an answer with a reasoning,
`-rOFFSET-CHECKSUM` follows, and after the end `-final`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

Bytes = bytes | bytearray

# Also the rule of `StreamJobRequest.after_event_id`.
_FORM = re.compile(
    r"(0|[1-9][0-9]{0,15})-([0-9a-f]{8})(?:-r([1-9][0-9]{0,15})-([0-9a-f]{8}))?(-final)?"
)


class Position(NamedTuple):
    """A place between two characters."""

    # Bytes of UTF-8 of the text before it.
    offset: int = 0
    # CRC-32 of these bytes; None when the reader did not say.
    checksum: int | None = 0
    # Whether the reader was told that nothing more comes.
    is_final: bool = False
    # The same of the reasoning. A reader that did not say its checksum has all of it.
    reasoning_offset: int = 0
    reasoning_checksum: int | None = 0

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads what `str` wrote. Raises ValueError."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError("is not the id of an event of this stream")
        offset, checksum, reasoning_offset, reasoning_checksum, final = match.groups(default="")
        return cls(
            int(offset),
            int(checksum, 16),
            bool(final),
            int(reasoning_offset or "0"),
            int(reasoning_checksum or "0", 16),
        )

    @classmethod
    def after(cls, offset: int) -> Position:
        """Returns the position of a reader that says only how much of the text it has."""
        return cls(offset, None, reasoning_checksum=None) if offset else START

    def __str__(self) -> str:
        reasoning = (
            f"-r{self.reasoning_offset}-{self.reasoning_checksum or 0:08x}"
            if self.reasoning_offset
            else ""
        )
        final = "-final" if self.is_final else ""
        return f"{self.offset}-{self.checksum or 0:08x}{reasoning}{final}"

    @property
    def is_begun(self) -> bool:
        """Whether the reader has anything."""
        return bool(self.offset or self.reasoning_offset)

    def within(self, text: Bytes, reasoning: Bytes = b"") -> Position | None:
        """Returns the position with its checksums, or None when the reader has another answer.

        A reader that gave no checksum is believed. Raises ValueError when its offset is no place in
        this text.
        """
        if self.offset > len(text):
            if self.checksum is None:
                raise ValueError("is beyond the end of the text")
            return None
        if self.offset < len(text) and text[self.offset] & 0xC0 == 0x80 and self.checksum is None:
            raise ValueError("is inside a character: offsets count bytes of UTF-8")
        begin = len(reasoning) if self.reasoning_checksum is None else self.reasoning_offset
        checksum = crc32(memoryview(text)[: self.offset])
        reasoning_checksum = crc32(memoryview(reasoning)[:begin])
        if (
            begin > len(reasoning)
            or self.checksum not in (None, checksum)
            or self.reasoning_checksum not in (None, reasoning_checksum)
        ):
            return None
        return Position(self.offset, checksum, False, begin, reasoning_checksum)

    def advanced(self, piece: bytes, reasoning: bytes = b"") -> Position:
        """Returns the position after one more piece of text, or of reasoning."""
        thought = self.reasoning_checksum
        if reasoning:
            thought = crc32(reasoning, thought or 0)
        return Position(
            self.offset + len(piece),
            crc32(piece, self.checksum or 0),
            False,
            self.reasoning_offset + len(reasoning),
            thought,
        )


START = Position()

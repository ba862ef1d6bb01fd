"""Lines of a file are found whatever pieces it is read in."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from aitbc_server.batches.lines import FileLine, LineReader

MOST = 8


def reader(content: bytes, piece: int, offset: int = 0, number: int = 0) -> LineReader:
    """Returns a reader of a content that comes in pieces of a size."""

    async def read(start: int) -> bytes:
        return content[start : start + piece]

    return LineReader(read, offset=offset, number=number, most_bytes=MOST)


def expected(content: bytes) -> list[FileLine]:
    """Returns the lines, read all at once."""
    lines, offset = [], 0
    for number, text in enumerate(content.split(b"\n"), start=1):
        if len(text) > MOST or text.strip():
            kept = text if len(text) <= MOST else None
            lines.append(FileLine(number, offset, len(text), kept))
        offset += len(text) + 1
    return lines


async def all_of(lines: LineReader, most: int) -> list[FileLine]:
    found = []
    while not lines.is_at_end:
        found += await lines.some(most, 1_000_000)
    return found


@given(
    st.lists(st.sampled_from([b"a", b"\n", b" ", b"\r", b"\x0b", b"longer than that"])).map(
        b"".join
    ),
    st.integers(1, 20),
    st.integers(1, 3),
)
async def test_lines_are_those_of_the_whole_file(content: bytes, piece: int, most: int) -> None:
    assert await all_of(reader(content, piece), most) == expected(content)


@given(st.lists(st.sampled_from([b"a", b"\n", b" ", b"bc"])).map(b"".join), st.integers(1, 5))
async def test_a_later_reader_goes_on_where_the_first_one_was(content: bytes, piece: int) -> None:
    first = reader(content, piece)
    found = await first.some(2, 1_000_000)
    second = reader(content, piece, first.offset, first.number)
    assert found + await all_of(second, 5) == expected(content)


async def test_millions_of_blank_lines_are_passed_over_soon() -> None:
    content = b"\n" * 5_000_000 + b"a\n"
    asked: list[int] = []

    async def read(start: int) -> bytes:
        asked.append(start)
        return content[start : start + 1_000_000]

    lines = LineReader(read, most_bytes=MOST)
    assert await lines.some(1, 1) == [FileLine(5_000_001, 5_000_000, 1, b"a")]
    assert len(asked) < 10


async def test_a_mark_of_the_byte_order_is_no_line() -> None:
    assert await all_of(reader(b"\xef\xbb\xbf\r\n", 3), 9) == []

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.positions import START, Position


@given(st.lists(st.text()), st.booleans())
def test_a_position_is_read_as_it_was_written(pieces: list[str], is_final: bool) -> None:
    position = START
    for piece in pieces:
        position = position.advanced(piece.encode())
    position = position._replace(is_final=is_final)
    assert Position.parse(str(position)) == position
    assert position.offset == len("".join(pieces).encode())


@given(st.text(), st.text(), st.text())
def test_a_position_is_found_in_the_text_it_is_in_and_in_no_other(
    known: str, rest: str, other: str
) -> None:
    position = START.advanced(known.encode())
    assert position.within((known + rest).encode()) == position
    if not other.startswith(known):
        assert position.within(other.encode()) is None


@pytest.mark.parametrize(
    "text", ["", "5", "-1-00000000", "05-00000000", "5-0000000", "5-ABCDEF00", "5-00000000-", "x"]
)
def test_what_no_stream_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="id of an event"):
        Position.parse(text)


def test_a_bare_offset_is_believed_where_it_is_a_place() -> None:
    assert Position(2, None).within("aé!".encode().replace(b"a", b"ab")) is not None
    with pytest.raises(ValueError, match="inside a character"):
        Position(2, None).within("aé".encode())
    with pytest.raises(ValueError, match="beyond the end"):
        Position(9, None).within(b"a")

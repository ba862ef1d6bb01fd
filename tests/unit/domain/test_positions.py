from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.positions import START, Position


@given(st.lists(st.tuples(st.text(), st.text())), st.booleans())
def test_a_position_is_read_as_it_was_written(
    pieces: list[tuple[str, str]], is_final: bool
) -> None:
    position = START
    for text, reasoning in pieces:
        position = position.advanced(text.encode(), reasoning.encode())
    position = position._replace(is_final=is_final)
    assert Position.parse(str(position)) == position
    assert position.offset == len("".join(text for text, _ in pieces).encode())
    assert position.reasoning_offset == len("".join(one for _, one in pieces).encode())


def test_a_position_in_an_answer_without_reasoning_does_not_name_it() -> None:
    assert str(START.advanced(b"a")) == "1-e8b7be43"
    assert str(START.advanced(b"", b"a")) == "0-00000000-r1-e8b7be43"


@given(st.text(), st.text(), st.text())
def test_a_position_is_found_in_the_text_it_is_in_and_in_no_other(
    known: str, rest: str, other: str
) -> None:
    position = START.advanced(known.encode())
    assert position.within((known + rest).encode()) == position
    if not other.startswith(known):
        assert position.within(other.encode()) is None


@given(st.text(), st.text(), st.text())
def test_a_position_is_found_after_the_reasoning_it_is_in_and_after_no_other(
    known: str, rest: str, other: str
) -> None:
    position = START.advanced(b"text", known.encode())
    assert position.within(b"text and more", (known + rest).encode()) == position
    if not other.startswith(known):
        assert position.within(b"text and more", other.encode()) is None


def test_who_says_only_how_much_of_the_text_it_has_has_the_reasoning() -> None:
    assert Position.after(0) == START
    found = Position.after(2).within(b"text", b"reasoning")
    assert found == START.advanced(b"te", b"reasoning")


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "-1-00000000", "05-00000000", "5-0000000", "5-ABCDEF00", "5-00000000-", "x"),
        *("5-00000000-r", "5-00000000-r0-00000000", "5-00000000-r1-0"),
        "5-00000000-final-r1-00000000",
    ],
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

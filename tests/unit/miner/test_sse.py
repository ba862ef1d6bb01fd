from __future__ import annotations

import random

import pytest

from aitbc_miner.engines import sse
from aitbc_miner.engines.sse import EventReader
from aitbc_miner.errors import EngineAnswerInvalid

# Separators that str.splitlines knows and the standard does not, and letters of several bytes.
TEXT = "a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1ee \U0001f600ü"


def read(*pieces: bytes) -> list[str]:
    reader = EventReader()
    told = [data for piece in pieces for data in reader.feed(piece)]
    return told + list(reader.end())


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_only_the_three_ends_of_lines_end_a_line(end: str) -> None:
    stream = f"\ufeffdata: {TEXT}{end}{end}: a comment{end}data:{TEXT}{end}{end}".encode()
    assert read(stream) == [TEXT, TEXT]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_stream_may_be_cut_anywhere(end: str) -> None:
    lines = ["event: x", f"data: {TEXT}", "data: two", "id: 7", "", "retry: 1", "data", "", ""]
    stream = end.join(lines).encode()
    expected = [f"{TEXT}\ntwo", ""]
    assert read(*(bytes([byte]) for byte in stream)) == expected
    rng = random.Random(7)
    for _ in range(200):
        cuts = sorted(rng.sample(range(len(stream)), 3))
        pieces = [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert read(*pieces) == expected


def test_ends_of_lines_may_be_mixed() -> None:
    assert read(b"data: a\r\rdata: b\n\ndata: c\r\n\r\n") == ["a", "b", "c"]


def test_only_one_space_is_cut_and_only_the_name_data_counts() -> None:
    assert read(b"data:  a\ndatas: b\n data: c\n\n") == [" a"]


def test_an_event_is_given_as_soon_as_it_ends() -> None:
    reader = EventReader()
    assert list(reader.feed(b"data: a\r\n\r")) == ["a"]
    assert list(reader.feed(b"\ndata: b\n\n")) == ["b"]


def test_the_last_event_may_lack_its_blank_line() -> None:
    assert read(b"data: a\n\ndata: [DONE]") == ["a", "[DONE]"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert read(b"data: a\xff\xed\xa0\x80b\n\n") == ["a\ufffd\ufffd\ufffd\ufffdb"]


@pytest.mark.parametrize("piece", [b"x" * 64, b"data: y\n"])
def test_an_event_that_never_ends_is_refused(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MOST_BYTES", 1000)
    with pytest.raises(EngineAnswerInvalid):
        read(*[piece] * 1000)

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.bounded_json import MOST_DEPTH, JsonError, read_json

TEXT = st.text(alphabet='\\"{}[]:,a\u2028é\n', max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda held: st.lists(held, max_size=4) | st.dictionaries(TEXT, held, max_size=4),
    max_leaves=20,
)


def nested(depth: int, begin: str = "[", end: str = "]") -> bytes:
    return (begin * depth + end * depth).encode()


@given(VALUES)
def test_what_others_write_is_read(value: Any) -> None:
    for text in (json.dumps(value).encode(), json.dumps(value, indent=1).encode()):
        assert read_json(text) == value
        # Where each name and value is counted, too.
        assert read_json(text, most_parts=count(value) + 1) == value


@given(VALUES.filter(lambda value: count(value) > 1))
def test_more_names_and_values_than_are_taken_are_refused(value: Any) -> None:
    # Room for what has to be looked at, whatever it holds.
    text = orjson.dumps(value) + b" " * 100
    with pytest.raises(JsonError, match="holds more than"):
        read_json(text, most_parts=count(value) - 1)


def count(value: Any) -> int:
    """Returns how many names and values a value counts for."""
    marks, numbers = marks_of(value)
    return marks - numbers + numbers // 4


def marks_of(value: Any) -> tuple[int, int]:
    """Returns the marks between and before names and values, and those between numbers of lists."""
    if not isinstance(value, dict | list):
        return 0, 0
    commas = max(0, len(value) - 1)
    marks, numbers = 1 + commas, 0
    if isinstance(value, dict):
        marks, value = marks + len(value), value.values()
    elif all(type(one) in (int, float) for one in value):
        numbers = commas
    for one in value:
        held_marks, held_numbers = marks_of(one)
        marks, numbers = marks + held_marks, numbers + held_numbers
    return marks, numbers


def test_the_tokens_of_a_long_prompt_are_read() -> None:
    tokens = list(range(262_144))
    assert read_json(orjson.dumps({"prompt_token_ids": tokens})) == {"prompt_token_ids": tokens}
    with pytest.raises(JsonError, match="holds more than"):
        read_json(orjson.dumps([["a", 1]] * 60_000))
    with pytest.raises(JsonError, match="holds more than"):
        read_json(orjson.dumps(tokens * 2))


@pytest.mark.parametrize("begin", ["[", '{"a":'])
def test_depth_has_a_bound(begin: str) -> None:
    end = "]" if begin == "[" else "}"
    inner = b"[]" if begin == "[" else b"{}"
    deepest = begin.encode() * (MOST_DEPTH - 1) + inner + end.encode() * (MOST_DEPTH - 1)
    assert read_json(deepest)
    with pytest.raises(JsonError, match="nested more than 32 levels"):
        read_json(begin.encode() + deepest + end.encode())


def test_depth_that_no_reader_takes_is_no_json() -> None:
    for text in (nested(1_000_000), b"[" * 1_000_000, b'{"a":' * 100_000):
        with pytest.raises(JsonError):
            read_json(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"prompt": "a", "prompt": "b"}', "prompt"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "b"),
        (b'[1, {"": 1, "": 1}]', ""),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b'{"a\\"b": ":", "a\\"b" : ":"}', 'a"b'),
        (b'{"a\\\\":":","a\\\\":":"}', "a\\\\"),
    ],
)
def test_a_name_that_comes_twice_is_refused_by_name(text: bytes, name: str) -> None:
    with pytest.raises(JsonError) as caught:
        read_json(text)
    assert str(caught.value) == f"has the name '{name}' twice in one object"


@pytest.mark.parametrize(
    "text",
    [b'{"a": "b: c", "d": {"a": "\\":\\\\"}}', b'[{"a": 1}, {"a": 1}]', b'"a:b"', b'{":":":"}'],
)
def test_colons_in_texts_are_no_names(text: bytes) -> None:
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", [b"", b"{", b'"', b"{]", b"nan", b'{"a":NaN}', b'"\xff"', b"1 2"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(JsonError, match="is not valid JSON"):
        read_json(text)

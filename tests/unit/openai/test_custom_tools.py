"""The input of a custom tool: read whole out of the arguments of a call, and as they come."""

from __future__ import annotations

import json

import pytest

from aitbc_server.openai.custom_tools import InputReader, arguments_of, input_of

TEXTS = ["", "ls -l", 'a "b" \\ / \b\f\n\r\t', "é🙂\u2028", "}" * 9]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("is_ascii", [True, False])
def test_what_is_read_as_it_comes_is_a_beginning_of_the_whole(text: str, is_ascii: bool) -> None:
    assert input_of(arguments_of(text)) == text
    arguments = " " + json.dumps({"input": text, "more": "x"}, ensure_ascii=is_ascii) + " "
    assert input_of(arguments) == text
    for step in (1, 2, 3, 5, len(arguments)):
        reader, told = InputReader(), ""
        for begin in range(0, len(arguments), step):
            told += reader.more(arguments[begin : begin + step])
            assert text.startswith(told)
        assert told == text


@pytest.mark.parametrize(
    "arguments", ["ls -l", "", '{"input": 5}', '["input"]', '{"other": "x"}', '{"input": "a', "{"]
)
def test_arguments_without_an_input_are_the_input(arguments: str) -> None:
    assert input_of(arguments) == arguments


@pytest.mark.parametrize(
    ("arguments", "certain"),
    [
        ('{"input":"a\\ud83d', "a"),
        ('{"input":"a\\ud83dx"}', "a"),
        ('{"input":"a\\xb"}', "a"),
        ('{"input":"a\nb"}', "a"),
        (" " * 1000 + '{"input":"a"}', ""),
        ('{"n":1,"input":"a"}', ""),
    ],
)
def test_what_is_not_certain_is_not_told(arguments: str, certain: str) -> None:
    reader = InputReader()
    assert "".join(map(reader.more, arguments)) == certain

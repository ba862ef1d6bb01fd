from __future__ import annotations

from typing import Any

import pytest

from aitbc_miner.engines.base import Logprob, Message, Resume, Tool, ToolCallPart
from aitbc_miner.engines.hermes import has_tools, in_texts
from aitbc_miner.engines.tools import CallFeed

Part = tuple[int | None, str | None, str | None, str | None]


def fed(*parts: Part, is_parallel: bool = True) -> list[ToolCallPart]:
    feed = CallFeed(is_parallel=is_parallel)
    return [told for part in parts for told in feed.take(*part)]


def joined(parts: list[ToolCallPart]) -> list[tuple[str, str]]:
    """Returns name and arguments of each call, as a client puts them together."""
    calls: list[tuple[str, str]] = []
    for part in parts:
        assert bool(part.call_id) == bool(part.name) == (part.index == len(calls))
        if part.name:
            calls.append((part.name, ""))
        name, arguments = calls[part.index]
        calls[part.index] = (name, arguments + part.arguments)
    return calls


@pytest.mark.parametrize(
    "parts",
    [
        # As OpenAI and vLLM tell them.
        [(0, "a", "f", ""), (0, None, None, "{}"), (1, "b", "g", None), (1, None, None, "[]")],
        # With the id and the name in each part.
        [(0, "a", "f", "{"), (0, "a", "f", "}"), (1, "b", "g", "[]")],
        # Without numbers, or with the same one.
        [(None, "a", "f", "{"), (None, None, None, "}"), (None, "b", "g", "[]")],
        [(0, "a", "f", "{}"), (0, "b", "g", "[]")],
        # The name later than the id, and than an argument.
        [(0, "a", None, "{"), (0, None, "f", None), (0, None, None, "}"), (1, "b", "g", "[]")],
        # Without ids.
        [(0, None, "f", "{}"), (1, None, "g", "[]")],
        # Without ids, and without numbers or with the same one.
        [(None, None, "f", "{}"), (None, None, "g", "[]")],
        [(0, None, "f", "{"), (0, None, "f", "}"), (0, None, "g", "[]")],
    ],
)
def test_however_parts_are_told_the_calls_are_the_same(parts: list[Part]) -> None:
    assert joined(fed(*parts)) == [("f", "{}"), ("g", "[]")]


@pytest.mark.parametrize("number", [None, 0])
def test_whole_arguments_end_a_call_that_has_no_id(number: int | None) -> None:
    said = fed((number, None, "f", '{"n":1}'), (number, None, "f", '{"n":2}'))
    assert joined(said) == [("f", '{"n":1}'), ("f", '{"n":2}')]


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    one, two = fed((0, None, "f", "{}"), (1, None, "g", "{}"))
    assert one.call_id.startswith("call_")
    assert one.call_id != two.call_id


def test_calls_after_the_first_are_dropped_where_there_may_be_one() -> None:
    parts: list[Part] = [
        (0, "a", "f", "{"),
        (1, "b", "g", "[]"),
        (0, None, None, "}"),
        (1, None, None, "[]"),
    ]
    assert joined(fed(*parts, is_parallel=False)) == [("f", "{}")]


def test_a_call_without_a_name_is_none() -> None:
    feed = CallFeed()
    assert feed.take(0, "a", None, "{}") == ()
    assert not feed.has_calls


@pytest.mark.parametrize(
    ("text", "tokens", "is_exact"),
    [
        ("ab", ["a", "b"], True),
        ("", [], True),
        ("🙂", ["", "🙂"], True),
        # A token more, a token less, and one whose character is not complete.
        ("ab", ["a", "b", "c"], False),
        ("ab", ["a"], False),
        ("ab", ["a", "b", ""], False),
    ],
)
def test_an_answer_is_resumed_exactly_where_its_tokens_are_its_text(
    text: str, tokens: list[str], is_exact: bool
) -> None:
    resume = Resume(text, len(tokens), tuple(Logprob(token, -1.0) for token in tokens))
    assert resume.is_exact is is_exact


def called(arguments: str) -> Message:
    function: dict[str, Any] = {"name": "f", "arguments": arguments}
    call = {"id": "a", "type": "function", "function": function}
    return Message(role="assistant", content="", tool_calls=[call, call])


def test_a_conversation_with_tools_is_told_in_texts() -> None:
    tool = Tool("f", "does it", {"type": "object"})
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="Do it."),
        called('{"x": "é"}'),
        Message(role="tool", content="5", tool_call_id="a"),
        Message(role="tool", content="6", tool_call_id="a"),
        Message(role="assistant", content="Done."),
    ]
    system, user, call, answer, done = in_texts(messages, [tool])
    assert system["content"].startswith("Be brief.\n\n# Tools")
    assert (
        '{"name": "f", "description": "does it", "parameters": {"type": "object"}}'
        in (system["content"])
    )
    assert (user, done) == (messages[1], messages[-1])
    text = '<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call>'
    assert call == Message(role="assistant", content=f"{text}\n{text}")
    assert answer["role"] == "user"
    assert answer["content"].count("<tool_response>") == 2
    assert has_tools(messages)


def test_without_tools_only_what_was_called_is_told() -> None:
    plain = [Message(role="user", content="hi")]
    assert in_texts(plain, ()) == plain
    assert not has_tools(plain)
    (call,) = in_texts([called("no JSON")], ())
    assert '"arguments": "no JSON"' in call["content"]


@pytest.mark.parametrize("is_strict", [None, False, True])
def test_a_template_is_given_a_tool_as_by_vllm(is_strict: bool | None) -> None:
    """Templates show all of a tool to the model: a null too."""
    strict = {} if is_strict is None else {"strict": is_strict}
    told = Tool("f", "", None, is_strict).as_in_templates()["function"]
    assert list(told.items()) == [
        ("name", "f"),
        ("description", None),
        ("parameters", None),
        *strict.items(),
    ]
    none = {"type": "object", "properties": {}, "additionalProperties": False}
    asked = Tool("f", "d", None, is_strict).as_openai()["function"]
    assert asked == {"name": "f", "description": "d", "parameters": none, **strict}

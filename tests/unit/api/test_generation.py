from __future__ import annotations

from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.api.generation import affinity_of, check_answer_size, check_generation, check_size
from aitbc_server.domain import sizes
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument

JSON_SCHEMA = jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA
REGEX = jobs_pb2.RESPONSE_FORMAT_TYPE_REGEX
CHOICE = jobs_pb2.RESPONSE_FORMAT_TYPE_CHOICE
GRAMMAR = jobs_pb2.RESPONSE_FORMAT_TYPE_GRAMMAR
TAG = jobs_pb2.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG
TOOL = jobs_pb2.Tool(name="f")
SYSTEM = jobs_pb2.ChatMessage(role="system", content="long " * 300)


def submit(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(model="m", **fields)


def tool(parameters: str) -> jobs_pb2.Tool:
    return jobs_pb2.Tool(name="f", parameters=parameters)


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


def chat(*contents: str) -> jobs_pb2.SubmitJobRequest:
    turns = [jobs_pb2.ChatMessage(role="user", content=content) for content in contents]
    return submit(messages=[SYSTEM, *turns])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (submit(messages=[SYSTEM], raw_prompt=True), "raw_prompt"),
        (submit(prompt=""), "prompt"),
        (submit(prompt=" \n\t"), "prompt"),
        (submit(prompt="", raw_prompt=True), "prompt"),
        (submit(response_format={"type": JSON_SCHEMA}), "response_format.json_schema"),
        (
            submit(response_format={"type": JSON_SCHEMA, "json_schema": "[]"}),
            "response_format.json_schema",
        ),
        (submit(response_format={"json_schema": "{}"}), "response_format.json_schema"),
        (submit(tools=[TOOL], raw_prompt=True), "tools"),
        (
            submit(params={"repetition_detection": {"min_pattern_size": 1}}),
            "params.repetition_detection.min_pattern_size",
        ),
        (
            submit(params={"repetition_detection": {"max_pattern_size": 2}}),
            "params.repetition_detection",
        ),
        (
            submit(params={"repetition_detection": {"max_pattern_size": 2, "min_count": 1}}),
            "params.repetition_detection.min_count",
        ),
        (submit(tools=[jobs_pb2.Tool(name="f", parameters="{")]), "tools[0].parameters"),
        (
            submit(tools=[jobs_pb2.Tool(name="f", parameters='{"type": "string"}')]),
            "tools[0].parameters",
        ),
        (submit(tools=[TOOL], tool_choice="g"), "tool_choice"),
        (submit(tool_choice="required"), "tool_choice"),
        (submit(metadata={"": ""}), "metadata"),
        (submit(metadata={"k" * 65: ""}), "metadata"),
        (submit(tools=[tool(nested(33))]), "tools[0].parameters"),
        (submit(tools=[tool('{"a": [' + '"",' * 10_000 + '""]}')]), "tools[0].parameters"),
        (submit(tools=[tool('{"a": 1, "a": 2}')]), "tools[0].parameters"),
        (
            submit(response_format={"type": JSON_SCHEMA, "json_schema": nested(33)}),
            "response_format.json_schema",
        ),
        (submit(response_format={"type": REGEX}), "response_format.regex"),
        (submit(response_format={"type": CHOICE}), "response_format.choices"),
        (submit(response_format={"type": GRAMMAR, "regex": "a"}), "response_format.regex"),
        (submit(response_format={"type": GRAMMAR}), "response_format.grammar"),
        (submit(response_format={"choices": ["a"]}), "response_format.choices"),
        (submit(response_format={"type": TAG}), "response_format.structural_tag"),
        (
            submit(response_format={"type": TAG, "structural_tag": "[]"}),
            "response_format.structural_tag",
        ),
        (submit(params={"min_tokens": 5, "max_tokens": 4}), "params.min_tokens"),
        (submit(params={"extra_args": "[]"}), "params.extra_args"),
        (submit(params={"extra_args": nested(33)}), "params.extra_args"),
        (submit(params={"logit_bias": {5: 1.0, -1: 1.0}}), "params.logit_bias[-1]"),
        (submit(prompt_token_ids=[1], tools=[TOOL]), "tools"),
    ],
)
def test_fields_that_do_not_fit_the_others_are_named(
    request_: jobs_pb2.SubmitJobRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_generation(request_)
    assert caught.value.field == field


@pytest.mark.parametrize("choice", ["", "auto", "none", "required", "f"])
def test_tools_are_chosen_in_every_way(choice: str) -> None:
    check_generation(submit(tools=[TOOL], tool_choice=choice))


@pytest.mark.parametrize(
    "form",
    [
        {"type": JSON_SCHEMA, "json_schema": '{"a": 1}'},
        {"type": REGEX, "regex": "a+"},
        {"type": CHOICE, "choices": ["yes", "no"]},
        {"type": GRAMMAR, "grammar": 'root ::= "a"'},
        {"type": TAG, "structural_tag": '{"structures": []}'},
        {},
    ],
)
def test_an_answer_may_be_held_to_any_form_also_beside_tools(form: dict[str, Any]) -> None:
    check_generation(submit(tools=[TOOL], response_format=form))


def test_prompts_of_tokens_have_keys_of_their_owner() -> None:
    a, b = Caller(owner="a"), Caller(owner="b")
    request = submit(prompt_token_ids=range(300))
    assert affinity_of(submit(prompt_token_ids=range(10)), a) == ()
    assert affinity_of(request, a) == affinity_of(submit(prompt_token_ids=range(400)), a)
    assert affinity_of(request, a) != affinity_of(submit(prompt_token_ids=range(1, 400)), a)
    assert affinity_of(request, a) != affinity_of(request, b)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prompt": "abcd" * 3}, "prompt"),
        ({"prompt_token_ids": [1, 2, 3]}, "prompt_token_ids"),
        ({"inputs": [{"text": "abcdefg", "text_pair": "abc"}]}, "inputs"),
        ({"inputs": [{"token_ids": [1, 2, 3]}]}, "inputs"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": "",
                        "parts": [{"type": "image_url", "url": "https://x/y"}],
                    }
                ]
            },
            "messages",
        ),
    ],
)
def test_the_size_of_a_prompt_is_that_of_all_that_is_put_before_the_model(
    fields: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_size(submit(**fields), 9)
    assert caught.value.field == name
    check_size(submit(**fields), 12)


def test_conversations_and_long_prompts_have_keys() -> None:
    caller = Caller()
    assert affinity_of(submit(prompt="short"), caller) == ()
    assert len(affinity_of(submit(prompt="short", conversation_id="c"), caller)) == 1
    assert affinity_of(chat("a"), caller) == affinity_of(chat("a", "b", "c"), caller)
    assert affinity_of(chat("a"), caller) != affinity_of(submit(prompt="x" * 2000), caller)


def test_a_conversation_is_its_owners() -> None:
    request = submit(prompt="short", conversation_id="c")
    assert affinity_of(request, Caller(owner="a")) != affinity_of(request, Caller(owner="b"))


def test_nobody_shares_a_beginning_with_another_owner() -> None:
    request = submit(prompt="x" * 5000)
    assert affinity_of(request, Caller(owner="a")) == affinity_of(request, Caller(owner="a"))
    assert not set(affinity_of(request, Caller(owner="a"))) & set(
        affinity_of(request, Caller(owner="b"))
    )


@pytest.mark.parametrize(
    ("params", "is_taken"),
    [
        ({"max_tokens": 6_000, "logprobs": 20}, False),
        ({"max_tokens": 1_000_000, "logprobs": 0}, False),
        ({"max_tokens": 4_900, "logprobs": 20}, True),
        ({"max_tokens": 1_000_000}, True),
        ({"logprobs": 20}, True),
    ],
)
def test_probabilities_that_no_answer_can_hold_are_refused(
    params: dict[str, int], is_taken: bool
) -> None:
    request = submit(prompt="x", params=params)
    if is_taken:
        check_answer_size(request, sizes.RESULT_BYTES)
    else:
        with pytest.raises(InvalidArgument) as caught:
            check_answer_size(request, sizes.RESULT_BYTES)
        assert caught.value.field == "params.logprobs"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt_token_ids": [1] * 5_000, "params": {"prompt_logprobs": 20}}, "params.prompt"),
        ({"inputs": [{"text": "a"}] * 2048, "dimensions": 513}, "inputs"),
    ],
)
def test_what_no_answer_can_hold_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_answer_size(submit(**fields), sizes.RESULT_BYTES)
    assert caught.value.field.startswith(field)


def test_what_an_answer_can_hold_is_asked_for() -> None:
    tokens = [1] * 4_900
    check_answer_size(
        submit(prompt_token_ids=tokens, params={"prompt_logprobs": 20}), sizes.RESULT_BYTES
    )
    check_answer_size(submit(inputs=[{"text": "a"}] * 2048, dimensions=512), sizes.RESULT_BYTES)


def test_a_schema_may_be_as_deep_as_any_json() -> None:
    check_generation(submit(tools=[tool(nested(32))]))

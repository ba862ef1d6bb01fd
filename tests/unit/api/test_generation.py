from __future__ import annotations

from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.api.generation import affinity_of, check_generation
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument

JSON_SCHEMA = jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA
TOOL = jobs_pb2.Tool(name="f")
SYSTEM = jobs_pb2.ChatMessage(role="system", content="long " * 300)


def submit(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(model="m", **fields)


def chat(*contents: str) -> jobs_pb2.SubmitJobRequest:
    turns = [jobs_pb2.ChatMessage(role="user", content=content) for content in contents]
    return submit(messages=[SYSTEM, *turns])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (submit(messages=[SYSTEM], raw_prompt=True), "raw_prompt"),
        (submit(response_format={"type": JSON_SCHEMA}), "response_format.json_schema"),
        (
            submit(response_format={"type": JSON_SCHEMA, "json_schema": "[]"}),
            "response_format.json_schema",
        ),
        (submit(response_format={"json_schema": "{}"}), "response_format.json_schema"),
        (submit(tools=[TOOL], raw_prompt=True), "tools"),
        (submit(tools=[TOOL, TOOL]), "tools[1].name"),
        (submit(tools=[jobs_pb2.Tool(name="f", parameters="{")]), "tools[0].parameters"),
        (
            submit(tools=[jobs_pb2.Tool(name="f", parameters='{"type": "string"}')]),
            "tools[0].parameters",
        ),
        (submit(tools=[TOOL], tool_choice="g"), "tool_choice"),
        (submit(tool_choice="required"), "tool_choice"),
        (
            submit(tools=[TOOL], response_format={"type": JSON_SCHEMA, "json_schema": '{"a":1}'}),
            "response_format",
        ),
        (submit(metadata={str(number): "" for number in range(17)}), "metadata"),
        (submit(metadata={"": ""}), "metadata"),
        (submit(metadata={"a": "b" * 513}), "metadata[a]"),
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


def test_conversations_and_long_prompts_have_keys() -> None:
    caller = Caller()
    assert affinity_of(submit(prompt="short"), caller) == ()
    assert len(affinity_of(submit(prompt="short", conversation_id="c"), caller)) == 1
    assert affinity_of(chat("a"), caller) == affinity_of(chat("a", "b", "c"), caller)
    assert affinity_of(chat("a"), caller) != affinity_of(submit(prompt="x" * 2000), caller)


def test_a_conversation_is_its_owners() -> None:
    request = submit(prompt="short", conversation_id="c")
    assert affinity_of(request, Caller(owner="a")) != affinity_of(request, Caller(owner="b"))

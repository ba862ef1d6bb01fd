from __future__ import annotations

import json
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.anthropic.blocks import TextBlock
from aitbc_server.anthropic.request import CountRequest, MessagesRequest, Thinking, Tool
from aitbc_server.anthropic.turns import Turn
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.parameters import Policy, section
from aitbc_server.openai.schema import Schema, read
from aitbc_server.openai.unknown import PassedOver

USER = {"role": "user", "content": "hi"}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}
SHOWN = jobs_pb2.ContentPart(type="image_url", url="data:image/png;base64,QQ==")


async def asked(kind: Any = MessagesRequest, **more: Any) -> jobs_pb2.SubmitJobRequest:
    body = {"model": "m", "max_tokens": 2048, "messages": [USER], **more}
    request = await read(kind, json.dumps(body).encode())
    job: jobs_pb2.SubmitJobRequest = request.submission()
    return job


async def told(*messages: Any, **more: Any) -> list[tuple[str, str]]:
    job = await asked(messages=messages, **more)
    return [(turn.role, turn.content) for turn in job.messages]


def says(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


async def test_a_systems_words_go_first_and_those_for_accounts_nowhere() -> None:
    system = [text("x-anthropic-billing-header: cc_version=1"), text("Be "), text("brief.")]
    reminder = {"role": "system", "content": " And kind."}
    assert await told(USER, reminder, system=system) == [
        ("system", "Be brief. And kind."),
        ("user", "hi"),
    ]
    assert await told(USER, system=system[:1]) == [("user", "hi")]


async def test_texts_of_a_message_are_told_as_vllm_tells_them() -> None:
    assert await told(says(text("a", cache_control={"type": "ephemeral"}), text("b"))) == [
        ("user", "a\nb")
    ]


async def test_documents_are_told_as_their_texts() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "It rains."}
    document = {"type": "document", "source": plain, "title": "Weather", "context": "today"}
    made = {"type": "document", "source": {"type": "content", "content": [text("It snows.")]}}
    found = {"type": "search_result", "source": "http://x", "title": "T", "content": [text("c")]}
    assert await told(says(document, made, found)) == [
        ("user", "Weather\ntoday\nIt rains.\nIt snows.\nT\nhttp://x\nc")
    ]
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}
    with pytest.raises(OpenAIError, match=r"content\[0\].source"):
        await told(says({"type": "document", "source": pdf}))


async def test_images_are_parts_of_a_message() -> None:
    there = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    job = await asked(messages=[says(text("What is"), PIXEL, text("this?"), there)])
    [turn] = job.messages
    # The coordinator makes the text of the parts.
    assert not turn.HasField("content")
    assert list(turn.parts) == [
        jobs_pb2.ContentPart(type="text", text="What is"),
        SHOWN,
        jobs_pb2.ContentPart(type="text", text="this?"),
        jobs_pb2.ContentPart(type="image_url", url="https://x.example/a.png"),
    ]


async def test_images_of_tools_are_shown_by_the_user_after_all_answers() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": one, "content": [text(one), PIXEL]}
        for one in ("a", "b")
    ]
    job = await asked(messages=[says(*results, text("And?"))])
    *answers, user = job.messages
    assert [(one.role, one.tool_call_id, one.content) for one in answers] == [
        ("tool", "a", "a"),
        ("tool", "b", "b"),
    ]
    assert list(user.parts) == [SHOWN, SHOWN, jobs_pb2.ContentPart(type="text", text="And?")]


async def test_thoughts_go_back_and_those_that_nobody_can_read_do_not() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}
    job = await asked(messages=[says(thought, hidden, text("I look."), call, role="assistant")])
    assert list(job.messages) == [
        jobs_pb2.ChatMessage(
            role="assistant",
            content="I look.",
            reasoning="hm",
            tool_calls=[jobs_pb2.ToolCall(id="c", name="f", arguments='{"a":1}')],
        )
    ]
    # It is no answer that was begun.
    assert not job.HasField("prompt_options")


async def test_an_answer_that_was_begun_goes_on() -> None:
    begun = {"role": "assistant", "content": "The answer is ("}
    job = await asked(messages=[USER, begun])
    assert job.prompt_options == jobs_pb2.PromptOptions(
        continue_final_message=True, add_generation_prompt=False
    )


@pytest.mark.parametrize(
    ("thinking", "config", "effort"),
    [
        ({"type": "disabled"}, {"effort": "high"}, "none"),
        ({"type": "enabled", "budget_tokens": 1024}, None, ""),
        ({"type": "adaptive", "display": "omitted"}, {"effort": "xhigh"}, "xhigh"),
        (None, None, ""),
    ],
)
async def test_effort_is_what_the_template_is_told(thinking: Any, config: Any, effort: str) -> None:
    job = await asked(thinking=thinking, output_config=config)
    assert job.prompt_options.reasoning_effort == effort


async def test_forms_come_under_either_name() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    expected = jobs_pb2.ResponseFormat(
        type=jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, json_schema='{"type":"object"}'
    )
    assert (await asked(output_config={"format": form})).response_format == expected
    assert (await asked(output_format=form)).response_format == expected


@pytest.mark.parametrize(
    ("thinking", "budget"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, 1024),
        ({"type": "enabled"}, None),
        ({"type": "adaptive", "budget_tokens": 1024}, None),
        ({"type": "disabled", "budget_tokens": 1024}, None),
    ],
)
async def test_a_budget_of_thinking_is_kept_where_a_miner_can(
    thinking: dict[str, Any], budget: int | None
) -> None:
    params = (await asked(thinking=thinking)).params
    assert params == jobs_pb2.GenerationParams(
        max_tokens=params.max_tokens,
        thinking_token_budget=budget,
        is_thinking_token_budget_optional=budget is not None,
    )


async def test_vllms_own_parameters_are_taken() -> None:
    job = await asked(
        cache_salt="s", vllm_xargs={"a": 1}, chat_template_kwargs={"enable_thinking": False}
    )
    assert job.cache_salt == "s"
    assert job.params.extra_args == '{"a":1}'
    assert job.prompt_options.chat_template_kwargs == '{"enable_thinking":false}'


async def test_numbers_may_be_texts_as_in_vllm() -> None:
    assert (await asked(max_tokens="7", temperature="0.5")).params == jobs_pb2.GenerationParams(
        max_tokens=7, temperature=0.5
    )


@pytest.mark.parametrize(
    ("choice", "mode", "parallel"),
    [
        ({"type": "auto"}, "auto", True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "tool", "name": "f"}, "f", True),
        ({"type": "none"}, "none", True),
    ],
)
async def test_choices_of_tools_are_a_jobs(choice: Any, mode: str, parallel: bool) -> None:
    job = await asked(tools=[{"name": "f", "input_schema": {}}], tool_choice=choice)
    assert (job.tool_choice, job.parallel_tool_calls) == (mode, parallel)


async def test_counting_asks_for_the_tokens_of_the_same_prompt() -> None:
    asked_for: dict[str, Any] = {
        "system": "s",
        "tools": [{"name": "f", "input_schema": {}}],
        "tool_choice": {"type": "any"},
        "output_format": {"type": "json_schema", "schema": {}},
    }
    counted, answered = await asked(CountRequest, **asked_for), await asked(**asked_for)
    assert counted.task == jobs_pb2.JOB_TASK_TOKENIZE
    assert (counted.messages, counted.tools) == (answered.messages, answered.tools)
    for name in ("tool_choice", "parallel_tool_calls", "response_format"):
        answered.ClearField(name)
    answered.task = counted.task
    answered.ClearField("params")
    assert counted == answered
    # Whether the prompt has tools that are not to be called, its miner decides as when it answers.
    unasked = await asked(CountRequest, **{**asked_for, "tool_choice": {"type": "none"}})
    assert (unasked.tools, unasked.tool_choice) == (counted.tools, "none")


SCHEMAS: dict[str, tuple[type[Schema], dict[str, Any]]] = {
    "anthropic_messages": (MessagesRequest, {"model": "m", "max_tokens": 1, "messages": [USER]}),
    "anthropic_turn": (Turn, USER),
    "anthropic_tool": (Tool, {"name": "f", "input_schema": {}}),
    "anthropic_thinking": (Thinking, {"type": "adaptive"}),
    "anthropic_block": (TextBlock, {"type": "text", "text": "hi"}),
}


@pytest.mark.parametrize("name", SCHEMAS)
async def test_parameters_are_dealt_with_as_their_table_says(name: str) -> None:
    schema, body = SCHEMAS[name]
    rows = section(name).values()
    if name != "anthropic_block":  # each of which has its own
        fields = {field.alias or one for one, field in schema.model_fields.items()}
        assert fields == {row.name for row in rows if row.policy is Policy.HONOURED}
    for row in rows:
        if row.policy is Policy.HONOURED:
            continue
        noted: list[PassedOver] = []
        for value in (None, *row.no_ops):
            await read(schema, json.dumps({**body, row.name: value}).encode(), noted.append)
        assert not noted
        asking = read(schema, json.dumps({**body, row.name: {"a": [1]}}).encode(), noted.append)
        if row.policy is Policy.REFUSED:
            with pytest.raises(OpenAIError) as caught:
                await asking
            assert caught.value.code == "unsupported_parameter"
        else:
            await asking
            assert bool(noted) == (row.policy is Policy.IGNORED)

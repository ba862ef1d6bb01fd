"""Custom tools of chats: told with their text, whole and as it comes, and sent back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageCustomToolCall

from aitbc.v1 import jobs_pb2
from tests.integration.server.responses import call, part
from tests.integration.server.test_openai_api import (
    USER,
    WEATHER,
    answer,
    both,
    finish,
    served,
    tell,
)

SHELL: Any = {"type": "custom", "custom": {"name": "shell", "description": "Runs a script."}}
TOOLS: Any = [SHELL, {"type": "function", "function": WEATHER}]
SCRIPT = 'echo "é\n🙂"'
ARGUMENTS = json.dumps({"input": SCRIPT})
ASKED: dict[str, Any] = {"model": "m", "messages": USER, "tools": TOOLS}


async def test_calls_of_custom_tools_are_told_and_sent_back_with_their_text(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (_, miner, api):
        calls = [call(0, ARGUMENTS, "shell"), call(1, "{}"), call(2, "bare", "shell")]
        done, assigned = await both(
            api.chat.completions.create(**ASKED),
            answer(miner, "", reason="tool_calls", tool_calls=calls),
        )
        shell, weather = assigned.job.tools
        assert (shell.name, shell.description) == ("shell", "Runs a script.")
        assert list(json.loads(shell.parameters)["properties"]) == ["input"]
        assert weather.name == "weather"
        first, second, third = done.choices[0].message.tool_calls
        assert isinstance(first, ChatCompletionMessageCustomToolCall)
        assert (first.id, first.custom.name, first.custom.input) == ("call_0", "shell", SCRIPT)
        assert (second.type, second.function.arguments) == ("function", "{}")
        assert third.custom.input == "bare"

        output = {"role": "tool", "tool_call_id": "call_0", "content": "é"}
        history = [*USER, done.choices[0].message, output]
        _, assigned = await both(
            api.chat.completions.create(**{**ASKED, "messages": history}), answer(miner, "fine")
        )
        sent = assigned.job.messages[1].tool_calls
        assert [(one.id, one.name, json.loads(one.arguments)) for one in sent] == [
            ("call_0", "shell", {"input": SCRIPT}),
            ("call_1", "weather", {}),
            ("call_2", "shell", {"input": "bare"}),
        ]


async def test_the_text_of_a_custom_tool_is_streamed_as_it_is_made(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(api.chat.completions.create(**ASKED, stream=True))
        [assignment] = await miner.assignments()
        lease_id = assignment.lease_id
        await tell(miner, lease_id, 0, tool_calls=[part(0, name="shell")])
        for number, character in enumerate(ARGUMENTS, start=1):
            await tell(miner, lease_id, number, tool_calls=[part(0, character)])
        calls = [call(0, ARGUMENTS, "shell"), call(1, "bare", "shell"), call(2, "{}")]
        await finish(
            miner, lease_id, len(ARGUMENTS) + 1, finish_reason="tool_calls", tool_calls=calls
        )
        parts = [
            one.to_dict()
            async for chunk in await asking
            for one in chunk.choices[0].delta.tool_calls or ()
        ]
        texts = {0: "", 1: "", 2: ""}
        for one in parts:
            said = one.get("custom") or one["function"]
            texts[one["index"]] += said.get("input", said.get("arguments", ""))
        assert texts == {0: SCRIPT, 1: "bare", 2: "{}"}
        heads = [(one["index"], one["type"]) for one in parts if "id" in one]
        assert heads == [(0, "custom"), (1, "custom"), (2, "function")]
        assert parts[0] == {
            "index": 0,
            "id": "call_0",
            "type": "custom",
            "custom": {"name": "shell", "input": ""},
        }


async def test_a_choice_may_name_custom_tools(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        named = {"type": "custom", "custom": {"name": "shell"}}
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
        for choice, name, names, reason in (
            (named, "shell", ["shell", "weather"], "stop"),
            (allowed, "required", ["shell"], "tool_calls"),
        ):
            for stream in (False, True):
                asking = asyncio.create_task(
                    api.chat.completions.create(**ASKED, tool_choice=choice, stream=stream)
                )
                made = [call(0, ARGUMENTS, "shell")]
                assigned = await answer(miner, "", reason="tool_calls", tool_calls=made)
                told = await asking
                *_, last = [chunk async for chunk in told] if stream else [told]
                assert last.choices[0].finish_reason == reason
                assert assigned.job.tool_choice == name
                assert [tool.name for tool in assigned.job.tools] == names
        grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}
        tool = {"type": "custom", "custom": {"name": "shell", "format": grammar}}
        with pytest.raises(openai.BadRequestError) as caught:
            await api.chat.completions.create(**{**ASKED, "tools": [tool]})
        assert caught.value.param == "tools[0].custom.format.type"


async def test_tools_and_a_form_of_the_answer_go_together(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        for choice in ("auto", "required"):
            done, assigned = await both(
                api.chat.completions.create(**ASKED, response_format=form, tool_choice=choice),
                answer(miner, "{}"),
            )
            assert assigned.job.response_format.type == jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA
            assert len(assigned.job.tools) == 2
            assert done.choices[0].message.content == "{}"

"""Tools of responses, whose calls are streamed in order and taken up again anywhere."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.integration.server.responses import (
    ASKED,
    SHELL,
    TOOL,
    asked,
    call,
    part,
    put_together,
    turns,
    whole,
)
from tests.integration.server.test_openai_api import (
    answer,
    both,
    finish,
    served,
    tell,
)


async def test_reasoning_text_and_parallel_calls_are_streamed_in_order(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        streaming = asyncio.create_task(
            api.responses.create(**ASKED, tools=[TOOL], stream=True, background=True)
        )
        [assignment] = await miner.assignments()
        lease_id = assignment.lease_id
        await tell(miner, lease_id, 0, reasoning="hm ")
        await tell(miner, lease_id, 1, reasoning="ü")
        await tell(miner, lease_id, 2, text="I look. ")
        await tell(miner, lease_id, 3, tool_calls=[part(0, name="weather")])
        await tell(miner, lease_id, 4, tool_calls=[part(0, '{"city":"Gr')])
        await tell(miner, lease_id, 5, tool_calls=[part(0, 'äz"}'), part(1, "{", "weather")])
        await finish(
            miner,
            lease_id,
            6,
            result="I look. ",
            reasoning="hm ü",
            finish_reason="tool_calls",
            tool_calls=[call(0, '{"city":"Gräz"}'), call(1, "{}"), call(2, "")],
        )
        live = await whole(await streaming)
        await miner.expect("acks")
        kinds = [event["type"].removeprefix("response.") for event in live]
        plain = [kind for kind, after in zip(kinds, [*kinds[1:], ""], strict=True) if kind != after]
        around = ["output_item.added", "output_item.done"]
        assert plain == [
            "created",
            "in_progress",
            *["output_item.added", "content_part.added"],
            *["reasoning_text.delta", "reasoning_text.done"],
            *["content_part.done", "output_item.done"],
            *["output_item.added", "content_part.added"],
            *["output_text.delta", "output_text.done"],
            *["content_part.done", "output_item.done"],
            *[
                around[0],
                "function_call_arguments.delta",
                "function_call_arguments.done",
                around[1],
            ],
            *[
                around[0],
                "function_call_arguments.delta",
                "function_call_arguments.done",
                around[1],
            ],
            *[around[0], "function_call_arguments.done", around[1]],
            "completed",
        ]
        # What a miner says within one turn may come as one event.
        assert kinds.count("function_call_arguments.delta") >= 2
        assert put_together(live) == [
            ("reasoning_text", "hm ü"),
            ("output_text", "I look. "),
            ("function_call_arguments", '{"city":"Gräz"}'),
            ("function_call_arguments", "{}"),
        ]
        done = [event["item"] for event in live if event["type"] == "response.output_item.done"]
        assert live[-1]["response"]["output"] == done
        response_id = live[-1]["response"]["id"]
        await _taken_up_anywhere(api, response_id, live)


async def _taken_up_anywhere(api: Any, response_id: str, live: list[dict[str, Any]]) -> None:
    """A reader who comes back anywhere gets what it has not, under the same numbers."""
    again = await whole(await api.responses.retrieve(response_id, stream=True))
    for events in (live, again):
        numbers = [event["sequence_number"] for event in events]
        assert numbers == sorted(set(numbers))
    told = {event["sequence_number"]: event for event in again}
    for event in live:
        if not event["type"].endswith(".delta"):
            same = {**event, "response": {}} if "response" in event else event
            other = told[event["sequence_number"]]
            assert same == ({**other, "response": {}} if "response" in other else other)
    assert live[-1] == again[-1]
    for place, event in enumerate(live):
        after = event["sequence_number"]
        rest = await whole(
            await api.responses.retrieve(response_id, stream=True, starting_after=after)
        )
        assert all(one["sequence_number"] > after for one in rest)
        assert _texts(live[: place + 1], rest) == _texts(live, [])


def _texts(*parts: list[dict[str, Any]]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in [event for events in parts for event in events]:
        if event["type"].endswith(".delta"):
            place = event["output_index"]
            texts[place] = texts.get(place, "") + event["delta"]
    return texts


async def test_the_input_of_a_custom_tool_is_streamed_as_the_text_that_it_is(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (_, miner, api):
        streaming = asyncio.create_task(
            api.responses.create(**ASKED, tools=[SHELL, TOOL], stream=True, background=True)
        )
        [assignment] = await miner.assignments()
        shell = assignment.job.tools[0]
        assert (shell.name, shell.description) == ("shell", "Runs a script.")
        assert list(json.loads(shell.parameters)["properties"]) == ["input"]
        script = 'echo "é\n🙂"'
        arguments = json.dumps({"input": script})
        lease_id = assignment.lease_id
        await tell(miner, lease_id, 0, tool_calls=[part(0, name="shell")])
        for number, character in enumerate(arguments, start=1):
            await tell(miner, lease_id, number, tool_calls=[part(0, character)])
        await finish(
            miner,
            lease_id,
            len(arguments) + 1,
            result="",
            finish_reason="tool_calls",
            tool_calls=[call(0, arguments, "shell"), call(1, "bare words", "shell")],
        )
        live = await whole(await streaming)
        await miner.expect("acks")
        assert put_together(live) == [
            ("custom_tool_call_input", script),
            ("custom_tool_call_input", "bare words"),
        ]
        first, second = live[-1]["response"]["output"]
        assert (first["type"], first["name"], first["input"]) == (
            "custom_tool_call",
            "shell",
            script,
        )
        assert second["input"] == "bare words"
        told = [tool["type"] for tool in live[-1]["response"]["tools"]]
        assert told == ["custom", "function"]
        await _taken_up_anywhere(api, live[-1]["response"]["id"], live)

        # What the tool printed goes back, with the call or after it.
        printed = {"type": "custom_tool_call_output", "call_id": "call_0", "output": "é"}
        said = ("assistant", "", [("call_0", "shell", '{"input":"echo \\"é\\n🙂\\""}')])
        assignment = await asked(
            api, miner, input=[{"role": "user", "content": "hi"}, first, printed]
        )
        assert turns(assignment) == [("user", "hi"), said, ("tool", "é", "call_0")]


async def test_tools_of_namespaces_are_told_by_their_own_names(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        space: Any = {"type": "namespace", "name": "sky", "description": "Skies.", "tools": [TOOL]}
        asking = api.responses.create(**ASKED, tools=[space], tool_choice="auto")
        made, assignment = await both(
            asking, answer(miner, "", tool_calls=[call(0, "{}", "sky__weather")])
        )
        assert [tool.name for tool in assignment.job.tools] == ["sky__weather"]
        [item] = made.output
        assert (item.name, item.namespace) == ("weather", "sky")
        assert made.tools[0].to_dict()["tools"][0]["name"] == "weather"
        output = {"type": "function_call_output", "call_id": "call_0", "output": "5"}
        assignment = await asked(api, miner, input=[item.to_dict(), output])
        assert turns(assignment)[0] == ("assistant", "", [("call_0", "sky__weather", "{}")])


async def test_tools_that_run_at_openai_are_told_to_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        hosted: Any = [
            {"type": "web_search"},
            {"type": "mcp", "server_label": "x", "server_url": "http://x", "authorization": "s3"},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            {"type": "local_shell"},
        ]
        asking = api.responses.with_raw_response.create(**ASKED, tools=[*hosted, TOOL])
        raw, assignment = await both(asking, answer(miner, "fine"))
        assert [tool.name for tool in assignment.job.tools] == ["weather"]
        ignored = raw.headers["x-aitbc-ignored"].split(", ")
        assert ignored == [f"tools[{place}].type" for place in range(4)]
        made = json.loads(raw.text)
        assert [tool["type"] for tool in made["tools"]] == [
            *(tool["type"] for tool in hosted),
            "function",
        ]
        assert "s3" not in raw.text
        for choice, tools in (
            ({"type": "web_search"}, [*hosted, TOOL]),
            ({"type": "mcp", "server_label": "x"}, [*hosted, TOOL]),
            ("required", hosted),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await api.responses.create(**ASKED, tools=tools, tool_choice=choice)
            assert caught.value.param == "tool_choice"


async def test_a_grammar_of_an_input_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _miner, api):
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.create(**ASKED, tools=[TOOL, {**SHELL, "format": grammar}])
        assert caught.value.param == "tools[1].format.type"
        assert caught.value.code == "unsupported_parameter"


async def test_a_choice_of_tools_is_kept_to(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        tools = [TOOL, {**TOOL, "name": "news"}, SHELL]
        choices: tuple[tuple[Any, str, list[str]], ...] = (
            ("required", "required", ["weather", "news", "shell"]),
            ("none", "none", ["weather", "news", "shell"]),
            ({"type": "function", "name": "news"}, "news", ["weather", "news", "shell"]),
            ({"type": "custom", "name": "shell"}, "shell", ["weather", "news", "shell"]),
            (
                {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "custom", "name": "shell"}, {"name": "weather"}],
                },
                "required",
                ["weather", "shell"],
            ),
        )
        for choice, name, names in choices:
            asking = api.responses.create(**ASKED, tools=tools, tool_choice=choice)
            made, assignment = await both(asking, answer(miner, "fine"))
            assert assignment.job.tool_choice == name
            assert [tool.name for tool in assignment.job.tools] == names
            told = made.to_dict()
            assert [tool["name"] for tool in told["tools"]] == ["weather", "news", "shell"]
            shown = told["tool_choice"]
            expected = choice
            if isinstance(choice, dict) and "tools" in choice:
                allowed = [{"type": "function", **tool} for tool in choice["tools"]]
                expected = {**choice, "tools": allowed}
            assert shown == expected
            Response.model_validate(told)
        for choice in (
            {"type": "function", "name": "other"},
            {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "other"}]},
        ):
            with pytest.raises(openai.BadRequestError, match="'other'") as caught:
                await api.responses.create(**ASKED, tools=tools, tool_choice=choice)
            assert caught.value.param == "tool_choice"


async def test_what_is_said_of_no_tools_is_told_again(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = api.responses.create(**ASKED, tool_choice="none", parallel_tool_calls=False)
        made, _ = await both(asking, answer(miner, "fine"))
        assert (made.tool_choice, made.parallel_tool_calls) == ("none", False)
        assert (await api.responses.retrieve(made.id)).to_dict() == made.to_dict()


@pytest.mark.parametrize(
    ("param", "allowed", "wrong"),
    [
        ("include[0]", "message.output_text.logprobs", {"include": ["bogus"]}),
        ("reasoning.effort", "'minimal'", {"reasoning": {"effort": "huge"}}),
        ("reasoning.summary", "'concise'", {"reasoning": {"summary": "long"}}),
        ("service_tier", "'flex'", {"service_tier": "gold"}),
        ("text.verbosity", "'medium'", {"text": {"verbosity": "huge"}}),
        ("truncation", "'disabled'", {"truncation": "some"}),
    ],
)
async def test_a_word_that_is_none_of_those_allowed_is_refused_with_them(
    tmp_path: Path, param: str, allowed: str, wrong: Any
) -> None:
    async with served(tmp_path) as (_, _, api):
        with pytest.raises(openai.BadRequestError, match=re.escape(allowed)) as caught:
            await api.responses.create(model="m", input="hi", extra_body=wrong)
        assert caught.value.param == param


async def test_tools_and_a_form_of_the_text_go_together(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        form = {"type": "json_schema", "name": "city", "schema": {"type": "object"}}
        asking = api.responses.create(**ASKED, tools=[TOOL], text={"format": form})
        made, assignment = await both(asking, answer(miner, "{}"))
        assert assignment.job.response_format.json_schema == '{"type":"object"}'
        assert len(assignment.job.tools) == 1
        assert made.text.format.name == "city"
        assert made.output_text == "{}"

"""Items of responses: what becomes of each that is sent, and second turns."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from aitbc.v1 import jobs_pb2
from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S
from tests.integration.server.responses import (
    ENCRYPTED,
    OUTPUTS,
    SECOND_TURN,
    SHELL,
    TOOL,
    asked,
    turns,
    with_everything,
)
from tests.integration.server.test_openai_api import (
    answer,
    both,
    served,
)
from tests.integration.server.test_openai_tasks import perform
from tests.integration.server.test_openai_tasks import served as served_tasks

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
ITEMS: list[tuple[list[Any], list[tuple[Any, ...]]]] = [
    ([{"role": "developer", "content": "brief"}], [("system", "brief")]),
    (
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}],
        [("user", "a")],
    ),
    (
        [
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "no"},
                ],
            }
        ],
        [("assistant", "a\nno")],
    ),
    (
        [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
            {"role": "assistant", "content": "a"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "fc_1"},
            {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "x", "created_by": "me"},
            {
                "type": "function_call_output",
                "call_id": "2",
                "output": [
                    {"type": "input_text", "text": "y"},
                    {"type": "input_text", "text": "z"},
                ],
            },
            {
                "type": "reasoning",
                "id": "r",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "t"}],
            },
            {"type": "function_call", "call_id": "3", "name": "f", "arguments": "{}"},
            {"type": "reasoning", "id": "r", "summary": [], "content": None},
            {"type": "function_call_output", "call_id": "3", "output": ""},
        ],
        [
            ("assistant", "a", "s", [("1", "f", "{}"), ("2", "f", "{}")]),
            ("tool", "x", "1"),
            ("tool", "y\nz", "2"),
            ("assistant", "", "t", [("3", "f", "{}")]),
            ("tool", "", "3"),
        ],
    ),
    (
        [
            {"type": "custom_tool_call", "call_id": "1", "name": "f", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "1", "output": "x"},
        ],
        [("assistant", "", [("1", "f", '{"input":"ls"}')]), ("tool", "x", "1")],
    ),
    # What the assistant thinks is a turn of its own where it says nothing.
    (
        [
            {"role": "user", "content": "u"},
            {"type": "reasoning", "id": "r", "content": [{"type": "reasoning_text", "text": "t"}]},
            {"role": "user", "content": "v"},
            {"role": "assistant", "content": "a"},
            {"type": "reasoning", "id": "r", "content": [{"type": "reasoning_text", "text": "s"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "reasoning", "id": "r", "content": [{"type": "reasoning_text", "text": "w"}]},
            {"role": "assistant", "content": "b"},
            {"role": "assistant", "content": "c"},
        ],
        [
            ("user", "u"),
            ("assistant", "", "t"),
            ("user", "v"),
            ("assistant", "a", "s", [("1", "f", "{}")]),
            ("assistant", "b", "w"),
            ("assistant", "c"),
        ],
    ),
]


async def test_items_of_every_kind_become_turns(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        for items, expected in ITEMS:
            assert turns(await asked(api, miner, input=items)) == expected


async def test_images_and_sounds_go_to_the_miner_as_they_are(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        content = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ]
        assignment = await asked(api, miner, input=[{"role": "user", "content": content}])
        [turn] = assignment.job.messages
        assert turn.content == "What is it?"
        assert [(one.type, one.url or one.data or one.text) for one in turn.parts] == [
            ("text", "What is it?"),
            ("image_url", "data:image/png;base64,AA=="),
            ("input_audio", "AA=="),
        ]


async def test_items_that_are_not_taken_are_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _miner, api):
        text = {"type": "input_text", "text": "a"}
        for items, param, code in (
            ([{"type": "computer_call", "id": "1"}], "input[0]", "unsupported_parameter"),
            (
                [{"role": "user", "content": [text, {"type": "input_file", "file_id": "f"}]}],
                "input[0].content[1]",
                "unsupported_parameter",
            ),
            (
                [{"role": "user", "content": [text, {"type": "input_image", "file_id": "f"}]}],
                "input[0].content[1].file_id",
                "unsupported_parameter",
            ),
            (
                [{"type": "function_call_output", "call_id": "1"}],
                "input[0].output",
                "missing_required_parameter",
            ),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await api.responses.create(model="m", input=items)
            assert (caught.value.param, caught.value.code) == (param, code)


async def test_a_message_that_was_not_finished_is_gone_on_with(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        for role, status, goes_on in (
            ("assistant", "incomplete", True),
            ("assistant", "completed", False),
            ("user", "incomplete", False),
        ):
            item = {"type": "message", "role": role, "content": "a", "status": status}
            options = (await asked(api, miner, input=[item])).job.prompt_options
            assert options.continue_final_message == goes_on
            assert options.HasField("add_generation_prompt") == goes_on


async def test_a_second_turn_is_the_same_by_name_by_reference_and_in_full(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        made = await with_everything(api, miner)
        follow = await asked(api, miner, previous_response_id=made.id, input=OUTPUTS)
        assert turns(follow) == SECOND_TURN
        references = [{"type": "item_reference", "id": item.id} for item in made.output]
        user: Any = {"role": "user", "content": "hi"}
        assert turns(await asked(api, miner, input=[user, *references, *OUTPUTS])) == SECOND_TURN
        bare = [{"id": one["id"]} for one in references]
        assert turns(await asked(api, miner, input=[user, *bare, *OUTPUTS])) == SECOND_TURN
        items = [item.to_dict() for item in made.output]
        assert turns(await asked(api, miner, input=[user, *items, *OUTPUTS])) == SECOND_TURN
        # What was asked has names, too.
        listed = await api.responses.input_items.list(made.id)
        named = [{"type": "item_reference", "id": item.id} for item in listed.data]
        assert turns(await asked(api, miner, input=[*named, *references, *OUTPUTS])) == SECOND_TURN


async def test_a_second_turn_without_a_store_keeps_the_reasoning(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        made = await with_everything(api, miner, store=False, include=[ENCRYPTED])
        assert made.store is False
        reasoning = made.output[0]
        assert reasoning.encrypted_content
        # As clients send it that read nothing else of it.
        sent = {
            "type": "reasoning",
            "summary": [],
            "encrypted_content": reasoning.encrypted_content,
        }
        items = [item.to_dict() for item in made.output[1:]]
        user: Any = {"role": "user", "content": "hi"}
        follow = await asked(api, miner, store=False, input=[user, sent, *items, *OUTPUTS])
        assert turns(follow) == SECOND_TURN
        # What another server sealed is read by nobody here.
        foreign = {**sent, "encrypted_content": "gAAAAA=="}
        items = [user, foreign, {"role": "assistant", "content": "a"}]
        asking = api.responses.with_raw_response.create(model="m", input=items)
        raw, follow = await both(asking, answer(miner, "fine"))
        assert turns(follow) == [("user", "hi"), ("assistant", "a")]
        assert raw.headers["x-aitbc-ignored"] == "input[1].encrypted_content"


async def test_what_was_asked_is_listed_in_pages(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        made = await with_everything(api, miner)
        user: Any = {
            "role": "user",
            "content": [{"type": "input_image", "image_url": "https://x/y.png"}],
        }
        asking = api.responses.create(
            model="m", previous_response_id=made.id, tools=[TOOL, SHELL], input=[*OUTPUTS, user]
        )
        second, _ = await both(asking, answer(miner, "fine"))
        names = [
            "message",
            "reasoning",
            "message",
            "function_call",
            "custom_tool_call",
            "function_call_output",
            "custom_tool_call_output",
            "message",
        ]
        ascending: list[Any] = []
        page = await api.responses.input_items.list(second.id, order="asc", limit=3)
        while True:
            ascending += page.data
            if not page.has_next_page():
                break
            page = await page.get_next_page()
        assert [item.type for item in ascending] == names
        assert len({item.id for item in ascending}) == len(ascending)
        for item in ascending:
            ITEM.validate_python(item.to_dict())
        descending = [item async for item in await api.responses.input_items.list(second.id)]
        assert [item.id for item in descending] == [item.id for item in ascending][::-1]
        async with httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http:
            path = f"/v1/responses/{second.id}/input_items"
            for query, param in (("limit=0", "limit"), ("order=up", "order"), ("after=x", "after")):
                refused = await http.get(f"{path}?{query}")
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_the_tokens_are_counted_of_the_prompt_that_a_response_would_have(
    tmp_path: Path,
) -> None:
    async with (
        served_tasks(tmp_path) as (client, miner, _),
        openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="x", max_retries=0) as api,
    ):
        asking = api.responses.create(model="m", instructions="be brief", input="hi")
        made, _ = await both(asking, answer(miner, "hello"))
        request: Any = {
            "model": "m",
            "instructions": "be long",
            "previous_response_id": made.id,
            "input": [{"type": "item_reference", "id": made.output[0].id}, *OUTPUTS],
            "tools": [TOOL, SHELL],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "shell"}]},
            "parallel_tool_calls": False,
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_object"}},
            "truncation": "auto",
        }
        counting = api.responses.input_tokens.count(**request)
        counted, [counter] = await both(
            counting, perform(miner, jobs_pb2.TaskOutput(token_ids=[5, 6, 7]))
        )
        await miner.expect("acks")
        assert (counted.object, counted.input_tokens) == ("response.input_tokens", 3)
        follow, assignment = await both(api.responses.create(**request), answer(miner, "fine"))
        assert counter.job.task == jobs_pb2.JOB_TASK_TOKENIZE
        assert turns(counter) == turns(assignment)
        assert counter.job.tools == assignment.job.tools
        assert counter.job.prompt_options.reasoning_effort == "low"
        # What is before may be all.
        counting = api.responses.input_tokens.count(model="m", previous_response_id=follow.id)
        counted, [counter] = await both(
            counting, perform(miner, jobs_pb2.TaskOutput(token_ids=[5]))
        )
        assert counted.input_tokens == 1
        assert turns(counter) == [*turns(assignment)[1:], ("assistant", "fine")]
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.input_tokens.count(model="m")
        assert caught.value.param == "input"


async def test_a_gateway_keeps_what_responses_repeat(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with served(tmp_path) as (client, miner, api):
        target = f"127.0.0.1:{client.coordinator.grpc_port}"
        running = asyncio.create_task(
            run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
        )
        there = api.with_options(base_url=f"http://127.0.0.1:{await ready}/v1")
        made = await with_everything(there, miner, instructions="be brief")
        for where in (there, api):
            assert (await where.responses.retrieve(made.id)).to_dict() == made.to_dict()
        references: Any = [{"type": "item_reference", "id": item.id} for item in made.output]
        user: Any = {"role": "user", "content": "hi"}
        assert turns(await asked(there, miner, input=[user, *references, *OUTPUTS])) == SECOND_TURN
        with pytest.raises(openai.NotFoundError, match="not found"):
            await there.responses.retrieve("resp_none")
        with pytest.raises(openai.BadRequestError) as caught:
            await there.responses.create(model="m", input="hi", previous_response_id="resp_none")
        assert caught.value.code == "previous_response_not_found"
        stop.set()
        await running

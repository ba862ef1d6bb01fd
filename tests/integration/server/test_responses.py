"""Responses with OpenAI's own client: what they say of themselves, now and later."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from aitbc.v1 import jobs_pb2, work_pb2
from tests.integration.server.harness import PATIENCE_S
from tests.integration.server.responses import (
    ASKED,
    ENCRYPTED,
    EVENT,
    LOGPROBS,
    TOOL,
    asked,
    part,
    turns,
    whole,
    with_everything,
)
from tests.integration.server.test_openai_api import (
    answer,
    both,
    finish,
    likely,
    served,
    tell,
)


async def test_the_reasoning_is_sealed_only_for_who_asks(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        made = await with_everything(api, miner)
        assert made.output[0].encrypted_content is None
        found = await api.responses.retrieve(made.id, include=[ENCRYPTED])
        assert found.output[0].encrypted_content
        streamed = await whole(
            await api.responses.retrieve(made.id, stream=True, include=[ENCRYPTED])
        )
        [done] = [
            event["item"]
            for event in streamed
            if event["type"] == "response.output_item.done" and event["item"]["type"] == "reasoning"
        ]
        assert done == found.output[0].to_dict() == streamed[-1]["response"]["output"][0]


async def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        made = await with_everything(api, miner)
        await api.responses.delete(made.id)
        for gone in (made.id, "resp_none", "msg_1"):
            with pytest.raises(openai.BadRequestError) as caught:
                await api.responses.create(**ASKED, previous_response_id=gone)
            assert caught.value.code == "previous_response_not_found"
            assert caught.value.param == "previous_response_id"
            with pytest.raises(openai.NotFoundError, match="not found") as missing:
                await api.responses.retrieve(gone)
            assert missing.value.param == "response_id"
        for name in (made.output[0].id, "msg_1", "rs_" + "0" * 26):
            items: Any = [{"role": "user", "content": "a"}, {"type": "item_reference", "id": name}]
            with pytest.raises(openai.NotFoundError, match=name) as missing:
                await api.responses.create(model="m", input=items)
            assert missing.value.param == "input[1]"
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.create(**ASKED, conversation="conv_1")
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "conversation")


async def test_a_response_is_told_the_same_when_it_is_made_and_later(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        first = await with_everything(api, miner)
        request: dict[str, Any] = {
            "instructions": "be brief",
            "previous_response_id": first.id,
            "max_output_tokens": 50,
            "max_tool_calls": 3,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low", "summary": "auto"},
            "safety_identifier": "s",
            "service_tier": "flex",
            "temperature": 0.5,
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "x",
                    "description": "y",
                    "schema": {"type": "object"},
                    "strict": False,
                },
                "verbosity": "low",
            },
            "tools": [TOOL, {"type": "web_search"}],
            "tool_choice": {"type": "function", "name": "weather"},
            "top_p": 0.5,
            "truncation": "auto",
            "user": "me",
        }
        more = {"frequency_penalty": 0.5, "presence_penalty": -0.5, "seed": 7, "stop": ["x"]}
        asking = api.responses.create(**ASKED, **request, extra_body=more)
        usage = jobs_pb2.Usage(prompt_tokens=9, completion_tokens=4, reasoning_tokens=2)
        running = asyncio.create_task(asking)
        [assignment] = await miner.assignments()
        await finish(miner, assignment.lease_id, 0, result="{}", finish_reason="stop", usage=usage)
        made = (await running).to_dict()
        params = assignment.job.params
        assert (params.seed, list(params.stop), params.frequency_penalty) == (7, ["x"], 0.5)
        assert assignment.job.prompt_options.reasoning_effort == "low"
        assert assignment.job.prompt_options.truncate_prompt_tokens == -1
        assert [turn.role for turn in assignment.job.messages][:2] == ["system", "user"]
        Response.model_validate(made)
        expected = {**request, **more, "model": "m", "object": "response", "store": True}
        for name in ("seed", "stop", "service_tier", "tools"):
            del expected[name]
        assert {name: made[name] for name in expected} == expected
        assert [tool["type"] for tool in made["tools"]] == ["function", "web_search"]
        assert made["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
        assert made["completed_at"] >= made["created_at"]
        assert (await api.responses.retrieve(made["id"])).to_dict() == made


async def test_instructions_are_those_of_one_response(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        items: Any = [{"role": "system", "content": "sys"}, {"role": "user", "content": "hi"}]
        asking = api.responses.create(model="m", instructions="be brief", input=items)
        made, assignment = await both(asking, answer(miner, "a"))
        assert turns(assignment) == [("system", "be brief"), ("system", "sys"), ("user", "hi")]
        for instructions, before in ((None, []), ("be long", [("system", "be long")])):
            follow = await asked(
                api, miner, previous_response_id=made.id, instructions=instructions, input="so?"
            )
            assert turns(follow) == [
                *before,
                ("system", "sys"),
                ("user", "hi"),
                ("assistant", "a"),
                ("user", "so?"),
            ]
        listed = await api.responses.input_items.list(made.id, order="asc")
        assert [item.content[0].text for item in listed.data] == ["sys", "hi"]


async def test_jobs_of_the_other_api_are_responses_too(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        for notes in ("", "none", '{"response": 5}', '{"response": {"tools": [7, {"tools": 1}]}}'):
            request = jobs_pb2.SubmitJobRequest(prompt="hi", model="m", api_notes=notes)
            job_id = (await client.jobs.SubmitJob(request)).job_id
            await answer(miner, "hello")
            response_id = job_id.replace("job-", "resp_")
            assert (await api.responses.retrieve(response_id)).output_text == "hello"
            [item] = (await api.responses.input_items.list(response_id)).data
            assert item.content[0].text == "hi"
            follow = await asked(api, miner, previous_response_id=response_id, input="so?")
            assert turns(follow) == [("user", "hi"), ("assistant", "hello"), ("user", "so?")]


async def test_a_stream_is_asked_for_in_every_form(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, miner, api),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        made = await with_everything(api, miner)
        for query in ("stream=1", "stream=true", "stream=True", "stream=yes", "stream=on"):
            told = await http.get(f"/v1/responses/{made.id}?{query}&include[]={ENCRYPTED}&x=1")
            assert told.headers["content-type"].startswith("text/event-stream"), query
            assert told.headers["x-aitbc-ignored"] == "x"
            assert told.text.count("event: response.completed") == 1
        for query in ("", "?stream=0", "?stream=false", "?include_obfuscation=false&include[]="):
            told = await http.get(f"/v1/responses/{made.id}{query}")
            assert told.json()["id"] == made.id
        for query, param in (("stream=maybe", "stream"), ("starting_after=-1", "starting_after")):
            refused = await http.get(f"/v1/responses/{made.id}?{query}")
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_probabilities_are_told_to_who_asks(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        tokens = likely("a", "b")
        asking = api.responses.create(**ASKED, top_logprobs=1)
        made, assignment = await both(asking, answer(miner, "ab"))
        assert not assignment.job.params.HasField("logprobs")
        assert made.output[0].content[0].logprobs == []
        streaming = asyncio.create_task(
            api.responses.create(**ASKED, top_logprobs=1, include=[LOGPROBS], stream=True)
        )
        [assignment] = await miner.assignments()
        assert assignment.job.params.logprobs == 1
        await tell(miner, assignment.lease_id, 0, text="a", logprobs=tokens[:1])
        await finish(miner, assignment.lease_id, 1, result="ab", logprobs=tokens)
        events = await whole(await streaming)
        deltas = [e for e in events if e["type"] == "response.output_text.delta"]
        assert [one["token"] for e in deltas for one in e["logprobs"]] == ["a", "b"]
        [done] = [e for e in events if e["type"] == "response.output_text.done"]
        told = events[-1]["response"]["output"][0]["content"][0]["logprobs"]
        assert [one["token"] for one in told] == ["a", "b"]
        assert done["logprobs"] == told
        assert told[0]["top_logprobs"][0]["token"] == "x"  # noqa: S105 - a word
        found = await api.responses.retrieve(events[-1]["response"]["id"], include=[LOGPROBS])
        assert found.output[0].content[0].to_dict()["logprobs"] == told


async def test_what_asks_for_nothing_is_taken(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        plain = _content(await asked(api, miner))
        nothings: tuple[dict[str, Any], ...] = (
            {"include": []},
            {"truncation": "disabled"},
            {"top_logprobs": 0},
            {"stream_options": {"include_obfuscation": False}},
            {"max_tool_calls": 5},
            {"prompt_cache_retention": "24h"},
            {"service_tier": "flex"},
            {"store": True},
            {"text": {"verbosity": "low"}},
            {"text": {"format": {"type": "text"}}},
            {"reasoning": {"summary": "auto"}},
            {"tools": []},
            {"include": ["web_search_call.action.sources"]},
        )
        for nothing in nothings:
            assert _content(await asked(api, miner, **nothing)) == plain, nothing
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.create(**ASKED, background=True, store=False)
        assert caught.value.param == "background"


def _content(assignment: work_pb2.Assignment) -> jobs_pb2.Job:
    """Returns what a miner was given, but for what each job has of its own."""
    job = assignment.job
    job.ClearField("job_id")
    job.ClearField("created_at")
    # Any, said or not.
    job.ClearField("response_format")
    return job


async def test_errors_name_what_the_request_of_a_response_has(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        for said, param in (
            ("messages: too long", "input"),
            ("messages[3]: no image", "input"),
            ("response_format: no such schema", "text.format"),
            ("tools[0]: no such schema", "tools"),
            ("reasoning_effort: none", "reasoning.effort"),
        ):
            asking = asyncio.create_task(api.responses.create(**ASKED))
            [assignment] = await miner.assignments()
            failure = work_pb2.Failure(code="BAD_REQUEST", message=said, retryable=False)
            update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            await miner.expect("acks")
            with pytest.raises(openai.BadRequestError) as caught:
                await asking
            assert caught.value.param == param
            assert caught.value.message == f"Error code: 400 - {param}:{said.partition(':')[2]}"
        wrong: Any = {**TOOL, "parameters": {"type": "array"}}
        for refused, param in (
            ({"tools": [wrong]}, "tools[0].parameters"),
            ({"prompt": {"id": "p"}}, "prompt"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await api.responses.create(**ASKED, **refused)
            assert caught.value.param == param
        # One that is streamed says it itself, and so does one in the background.
        for said, told in (
            ("response_format: no such schema", "text.format: no such schema"),
            ("max_tokens: too many", "max_output_tokens: too many"),
            ("messages[3]: no image", "input: no image"),
            ("no such thing: never", "no such thing: never"),
        ):
            streaming = asyncio.create_task(api.responses.create(**ASKED, stream=True))
            [assignment] = await miner.assignments()
            failure = work_pb2.Failure(code="BAD_REQUEST", message=said, retryable=False)
            update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            await miner.expect("acks")
            *_, last = await whole(await streaming)
            assert last["response"]["error"] == {"code": "invalid_prompt", "message": told}
            kept = await api.responses.retrieve(last["response"]["id"])
            assert kept.error is not None
            assert kept.error.message == told
        queued = await api.responses.create(**ASKED, background=True)
        [assignment] = await miner.assignments()
        await miner.fail(assignment.lease_id, "BAD_REQUEST", retryable=False)
        await miner.expect("acks")
        failed = await api.responses.retrieve(queued.id)
        assert (failed.status, failed.error.code) == ("failed", "invalid_prompt")
        *_, last = await whole(await api.responses.retrieve(queued.id, stream=True))
        assert (last["type"], last["response"]["error"]["message"]) == (
            "response.failed",
            "it broke",
        )


async def test_an_error_that_ends_a_stream_is_its_last_event(tmp_path: Path) -> None:
    body = {**ASKED, "tools": [TOOL], "stream": True}
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
        http.stream("POST", "/v1/responses", json=body) as streamed,
    ):
        lines = streamed.aiter_lines()
        [assignment] = await miner.assignments()
        await tell(miner, assignment.lease_id, 0, tool_calls=[part(0, "{", "weather")])
        async for line in lines:
            if line == "event: response.function_call_arguments.delta":
                break
        await miner.fail(assignment.lease_id, sequence=1)
        async with client.miner("miner-2") as heir:
            [again] = await heir.assignments()
            other = jobs_pb2.ToolCall(id="two", name="weather", arguments="{}")
            await finish(heir, again.lease_id, 0, finish_reason="tool_calls", tool_calls=[other])
            rest = [line async for line in lines]
        event = json.loads(rest[rest.index("event: error") + 1].removeprefix("data: "))
        EVENT.validate_python(event)
        assert event["code"] == event["error"]["code"] == "answer_restarted"
        assert (
            event["sequence_number"] > json.loads(rest[0].removeprefix("data: "))["sequence_number"]
        )


async def test_vllms_own_parameters_are_honoured(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        own = {
            "ignore_eos": True,
            "stop_token_ids": [2],
            "include_stop_str_in_output": True,
            "logit_bias": {"5": 1},
            "skip_special_tokens": False,
            "vllm_xargs": {"a": 1},
            "cache_salt": "salt",
            "session_id": "s",
            "chat_template_kwargs": {"enable_thinking": False},
            "structured_outputs": {"choice": ["a", "b"]},
        }
        job = (await asked(api, miner, extra_body=own)).job
        assert job.params == jobs_pb2.GenerationParams(
            ignore_eos=True,
            stop_token_ids=[2],
            include_stop_str_in_output=True,
            logit_bias={5: 1},
            skip_special_tokens=False,
            extra_args='{"a":1}',
        )
        assert job.conversation_id == "s"
        assert job.prompt_options.chat_template_kwargs == '{"enable_thinking":false}'
        assert list(job.response_format.choices) == ["a", "b"]
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.create(
                **ASKED, text={"format": {"type": "json_object"}}, extra_body=own
            )
        assert caught.value.param == "structured_outputs"


async def test_reasoning_is_left_out_for_who_does_not_want_it(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        hidden: Any = {"extra_body": {"include_reasoning": False}}
        made = await with_everything(api, miner, **hidden)
        kinds = ["message", "function_call", "custom_tool_call"]
        assert [item.type for item in made.output] == kinds
        assert (await api.responses.retrieve(made.id)).to_dict() == made.to_dict()
        events = await whole(await api.responses.retrieve(made.id, stream=True))
        assert not [event for event in events if "reasoning_text" in event["type"]]
        assert [item["type"] for item in events[-1]["response"]["output"]] == kinds

"""Anthropic's API with Anthropic's own client, and a miner whose every word the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.anthropic.answers import Failure, Message, MessageEvent
from aitbc_server.openai import call
from aitbc_server.rest import stream
from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S, Client, FakeMiner, coordinator
from tests.integration.server.test_openai_api import answer, both, finish, tell

USER: Any = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {"model": "m", "max_tokens": 64, "messages": USER}
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather",
    "input_schema": {"properties": {"city": {"type": "string"}}},
}


@asynccontextmanager
async def served(data: Path, **settings: Any) -> AsyncIterator[tuple[Client, FakeMiner, Any]]:
    async with (
        coordinator(data, **settings) as client,
        client.miner() as miner,
        anthropic.AsyncAnthropic(
            base_url=client.url, api_key="sk-ant-unused", max_retries=0, timeout=PATIENCE_S
        ) as api,
    ):
        yield client, miner, api


async def test_a_message_is_a_job_with_what_was_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        asking = api.messages.with_raw_response.create(
            **ASKED,
            system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
            # Not in this version of the client any more.
            extra_body={"temperature": 0.5, "top_k": 4, "top_p": 0.9},
            stop_sequences=["END"],
            metadata={"user_id": "me"},
            extra_headers={"anthropic-beta": "context-management-2025-06-27"},
        )
        raw, assigned = await both(asking, answer(miner, "hello ", "world"))
        job = assigned.job
        assert [(turn.role, turn.content) for turn in job.messages] == [
            ("system", "be brief"),
            ("user", "hi"),
        ]
        assert job.params == jobs_pb2.GenerationParams(
            max_tokens=64, temperature=0.5, top_k=4, top_p=0.9, stop=["END"]
        )
        message = await raw.parse()
        Message.model_validate(raw.http_response.json())
        [block] = message.content
        assert (block.type, block.text) == ("text", "hello world")
        assert (message.role, message.model) == ("assistant", "m")
        assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
        assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 2)
        assert raw.headers["x-job-id"] == job.job_id
        assert raw.headers["request-id"] == message._request_id
        assert "x-aitbc-ignored" not in raw.headers
        stored = await client.job(job.job_id)
        assert stored.result == "hello world"
        assert (stored.user, dict(stored.metadata)) == ("me", {})


async def test_what_has_no_effect_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = api.beta.messages.with_raw_response.create(
            **ASKED,
            context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            tools=[{**WEATHER, "defer_loading": True, "bogus": 1}],
            extra_body={"bogus": 1, "né": 2},
        )
        raw, _ = await both(asking, answer(miner, "hello"))
        assert raw.headers["x-aitbc-ignored"] == "context_management, bogus, n?, tools[0].bogus"


async def test_a_message_is_streamed_in_anthropics_order(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(api.messages.create(**ASKED, stream=True))
        [assignment] = await miner.assignments()
        await tell(miner, assignment.lease_id, 0, reasoning="hm")
        stream = await asking
        got = [(await anext(stream)).to_dict() for _ in range(3)]
        # As it is made.
        assert [one["type"] for one in got] == [
            "message_start",
            "content_block_start",
            "content_block_delta",
        ]
        await miner.say(assignment.lease_id, "é", 1)
        usage = jobs_pb2.Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=3)
        ending = {"finish_reason": "length", "reasoning": "hm", "usage": usage}
        await finish(miner, assignment.lease_id, 2, result="é!", **ending)
        got += [event.to_dict() async for event in stream]
        start = got[0]["message"]
        assert (start["content"], start["stop_reason"], start["role"]) == ([], None, "assistant")
        assert [(one["type"], one.get("delta")) for one in got[1:]] == [
            ("content_block_start", None),
            ("content_block_delta", {"type": "thinking_delta", "thinking": "hm"}),
            ("content_block_delta", {"type": "signature_delta", "signature": SIGNATURE}),
            ("content_block_stop", None),
            ("content_block_start", None),
            ("content_block_delta", {"type": "text_delta", "text": "é"}),
            ("content_block_delta", {"type": "text_delta", "text": "!"}),
            ("content_block_stop", None),
            ("message_delta", {"stop_reason": "max_tokens", "stop_sequence": None}),
            ("message_stop", None),
        ]
        assert [one["index"] for one in got if "index" in one] == [0, 0, 0, 0, 1, 1, 1, 1]
        assert got[-2]["usage"] == {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 3},
        }


# Of "hm".
SIGNATURE = "b82e2178ecf4d0c5859dc2e169d7fed8673f9f6eeb9f3591bed5f253b7742408"


async def test_bytes_of_a_stream_are_events_that_the_document_describes(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, _), httpx.AsyncClient() as http:
        asking = asyncio.create_task(
            http.post(f"{client.url}/v1/messages", json={**ASKED, "stream": True})
        )
        await answer(miner, "a", "b")
        response = await asking
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [one.split("\n") for one in response.text.removesuffix("\n\n").split("\n\n")]
        assert [name for name, _ in events] == [
            "event: message_start",
            "event: ping",
            "event: content_block_start",
            "event: content_block_delta",
            "event: content_block_delta",
            "event: content_block_stop",
            "event: message_delta",
            "event: message_stop",
        ]
        for name, data in events:
            event = json.loads(data.removeprefix("data: "))
            MessageEvent.model_validate(event)
            assert event["type"] == name.removeprefix("event: ")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_tells_its_stop_sequence_and_what_a_cache_had(
    tmp_path: Path, is_streamed: bool
) -> None:
    async with served(tmp_path) as (_, miner, api):

        async def ask() -> Any:
            asked = {**ASKED, "stop_sequences": ["END", "STOP"]}
            if not is_streamed:
                return await api.messages.create(**asked)
            async with api.messages.stream(**asked) as streamed:
                return await streamed.get_final_message()

        asking = asyncio.create_task(ask())
        [assignment] = await miner.assignments()
        usage = jobs_pb2.Usage(prompt_tokens=5, cached_tokens=4, completion_tokens=1)
        ending: dict[str, Any] = {"finish_reason": "stop", "stop_string": "STOP", "usage": usage}
        await finish(miner, assignment.lease_id, 0, result="hello", **ending)
        message = await asking
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "STOP")
        assert message.content[0].text == "hello"
        assert message.usage.input_tokens == 1
        assert message.usage.cache_read_input_tokens == 4


async def test_what_claude_code_sends_is_taken(tmp_path: Path) -> None:
    cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    bash = {
        "name": "Bash",
        "description": "Runs a command",
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
            "additionalProperties": False,
        },
        "eager_input_streaming": True,
        **cached,
    }
    called = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": False, **cached}
    body = {
        "model": "m",
        "max_tokens": 32000,
        "stream": True,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.0; cch=1a2b3;"},
            {"type": "text", "text": "You are Claude Code.", **cached},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "text", "text": "I look.", "citations": None},
                    {**called, "caller": {"type": "direct"}},
                ],
            },
            {"role": "user", "content": [{**result, "content": "a.txt"}]},
            {"role": "system", "content": "Be careful."},
            {"role": "user", "content": [{"type": "text", "text": "go on", **cached}]},
        ],
        # Those of its servers are many.
        "tools": [bash, *({**bash, "name": f"mcp__server__{n}"} for n in range(200))],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "session_id": "s" * 36})},
    }
    headers = {
        "authorization": "Bearer sk-ant-unused",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "anthropic-dangerous-direct-browser-access": "true",
        "x-app": "cli",
    }
    async with served(tmp_path) as (client, miner, _), httpx.AsyncClient() as http:
        url = f"{client.url}/v1/messages?beta=true"
        answered, assigned = await both(
            http.post(url, json=body, headers=headers), answer(miner, "do", "ne")
        )
        assert answered.status_code == 200
        assert answered.headers["x-aitbc-ignored"] == "context_management"
        assert "message_stop" in answered.text
        job = assigned.job
        assert [(turn.role, turn.content) for turn in job.messages] == [
            ("system", "You are Claude Code.Be careful."),
            ("user", "<system-reminder>"),
            ("assistant", "I look."),
            ("tool", "a.txt"),
            ("user", "go on"),
        ]
        assert job.prompt_options.reasoning_effort == "high"
        assert len(job.tools) == 201


async def test_a_stream_that_waits_is_kept_alive_by_pings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "_HOLD_S", 0.01)
    monkeypatch.setattr(stream, "_HEARTBEAT_S", 0.01)
    async with served(tmp_path) as (client, miner, _), httpx.AsyncClient() as http:
        asked = {**ASKED, "stream": True}
        async with http.stream("POST", f"{client.url}/v1/messages", json=asked) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(3)] == [
                "event: ping",
                'data: {"type": "ping"}',
                "",
            ]
            await answer(miner, "a", "b")
            names = [line async for line in lines if line.startswith("event: ")]
        assert [name for name in names if name != "event: ping"][-1] == "event: message_stop"


async def test_the_stream_helper_of_the_client_makes_the_whole_message(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        call = jobs_pb2.ToolCall(id="call-1", name="weather", arguments='{"city": "Oslo"}')

        async def ask() -> Any:
            async with api.messages.stream(**ASKED, tools=[WEATHER]) as stream:
                return [text async for text in stream.text_stream], await stream.get_final_message()

        asking = asyncio.create_task(ask())
        [assignment] = await miner.assignments()
        deltas: list[dict[str, Any]] = [
            {"reasoning": "hm"},
            {"text": "Let me "},
            {"text": "look."},
            {"tool_calls": [jobs_pb2.ToolCallPart(index=0, id="call-1", name="weather")]},
            {"tool_calls": [jobs_pb2.ToolCallPart(index=0, arguments='{"city"')]},
        ]
        for sequence, delta in enumerate(deltas):
            await tell(miner, assignment.lease_id, sequence, **delta)
        await finish(
            miner,
            assignment.lease_id,
            5,
            result="Let me look.",
            reasoning="hm",
            tool_calls=[call],
            finish_reason="tool_calls",
        )
        texts, message = await asking
        assert "".join(texts) == "Let me look."
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        thought, _, used = message.content
        assert (thought.thinking, thought.signature) == ("hm", SIGNATURE)
        assert (used.id, used.name, used.input) == ("call-1", "weather", {"city": "Oslo"})
        assert message.stop_reason == "tool_use"


async def test_tools_are_called_and_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        calls = [
            jobs_pb2.ToolCall(id=f"call-{city}", name="weather", arguments=json.dumps({"c": city}))
            for city in ("Oslo", "Rome")
        ]
        asking = api.messages.create(
            **ASKED,
            tools=[WEATHER],
            tool_choice={"type": "any", "disable_parallel_tool_use": False},
            thinking={"type": "adaptive"},
        )
        first, assigned = await both(
            asking,
            answer(
                miner, "Let me look.", reason="tool_calls", tool_calls=calls, reasoning="I must ask"
            ),
        )
        job = assigned.job
        [tool] = job.tools
        assert (tool.name, tool.description) == ("weather", "Tells the weather")
        assert json.loads(tool.parameters) == {"type": "object", **WEATHER["input_schema"]}
        assert (job.tool_choice, job.parallel_tool_calls) == ("required", True)
        assert first.stop_reason == "tool_use"
        results = [
            {"type": "tool_result", "tool_use_id": "call-Oslo", "content": "rain"},
            {
                "type": "tool_result",
                "tool_use_id": "call-Rome",
                "is_error": True,
                "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "line"}],
            },
            {"type": "text", "text": "And?"},
        ]
        turns = [
            *USER,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": results},
        ]
        asking = api.messages.create(
            **{**ASKED, "messages": turns},
            tools=[WEATHER],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        )
        _, assigned = await both(asking, answer(miner, "It rains."))
        assert assigned.job.HasField("parallel_tool_calls")
        assert not assigned.job.parallel_tool_calls
        _, said, *answers, asked = assigned.job.messages
        assert (said.content, said.reasoning) == ("Let me look.", "I must ask")
        assert [json.loads(call.arguments) for call in said.tool_calls] == [
            {"c": "Oslo"},
            {"c": "Rome"},
        ]
        assert [(one.role, one.tool_call_id, one.content) for one in answers] == [
            ("tool", "call-Oslo", "rain"),
            ("tool", "call-Rome", "no\nline"),
        ]
        assert (asked.role, asked.content) == ("user", "And?")


async def test_errors_have_anthropics_shape(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):

        async def refused(kind: type[anthropic.APIStatusError], **request: Any) -> Any:
            with pytest.raises(kind) as caught:
                await api.messages.create(**{**ASKED, **request})
            Failure.model_validate(caught.value.body)
            assert caught.value.request_id == caught.value.body["request_id"]  # type: ignore[index]
            return caught.value

        unknown = await refused(anthropic.NotFoundError, model="claude-9")
        assert (unknown.type, unknown.error_code) == ("not_found_error", "model_not_found")
        assert "claude-9" in unknown.api_message
        image = {"type": "image", "source": {"type": "file", "file_id": "f"}}
        for message, request in (
            ("Missing required parameter: 'max_tokens'.", {"max_tokens": None}),
            ("Invalid 'temperature': Input", {"extra_body": {"temperature": 9}}),
            ("Invalid 'messages[0].role': Input", {"messages": [{"role": "king", "content": ""}]}),
            ("Invalid 'messages': ", {"messages": []}),
            (
                "Unsupported parameter: 'messages[0].content[1]'",
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [{"type": "text", "text": "x"}, {"type": "audio"}],
                        }
                    ]
                },
            ),
            (
                "Unsupported parameter: 'messages[0].content[0].source'",
                {"messages": [{"role": "user", "content": [image]}]},
            ),
            (
                "Invalid 'tools[0].type': Input",
                {"tools": [{"type": "web_search_20250305"}]},
            ),
            ("Missing required parameter: 'tools[0].input_schema'", {"tools": [{"name": "f"}]}),
            ("tools[0].name: ", {"tools": [{**WEATHER, "name": "a\nb"}]}),
            ("Invalid 'tool_choice': there are no tools", {"tool_choice": {"type": "any"}}),
            (
                "Invalid 'tool_choice.name': must be the name of one",
                {"tools": [WEATHER], "tool_choice": _named("wether")},
            ),
            (
                "Missing required parameter: 'tool_choice.name'",
                {"tools": [WEATHER], "tool_choice": {"type": "tool"}},
            ),
            (
                "Unsupported parameter: 'mcp_servers'",
                {"extra_body": {"mcp_servers": [{"type": "url", "url": "x"}]}},
            ),
            ("Unsupported parameter: 'inference_geo'", {"extra_body": {"inference_geo": "us"}}),
        ):
            error = await refused(anthropic.BadRequestError, **request)
            assert error.api_message.startswith(message), error
            assert error.type == "invalid_request_error"

        # What the engine refuses is told before the first byte, in a stream too.
        for stream in (False, True):
            asking = asyncio.create_task(refused(anthropic.BadRequestError, stream=stream))
            [assignment] = await miner.assignments()
            failure = work_pb2.Failure(
                code="CONTEXT_LENGTH_EXCEEDED", message="8 tokens", fault=work_pb2.FAULT_JOB
            )
            update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            assert (await asking).api_message == "prompt is too long: 8 tokens"
            await miner.expect("acks")


def _named(name: str) -> dict[str, str]:
    return {"type": "tool", "name": name}


async def test_an_error_in_the_middle_of_a_stream_is_an_event(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(api.messages.create(**ASKED, stream=True))
        [assignment] = await miner.assignments()
        await miner.say(assignment.lease_id, "a", 0)
        stream = await asking
        await anext(stream)
        await miner.fail(assignment.lease_id, "BAD_REQUEST", retryable=False, sequence=1)
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for _ in stream:
                pass
        Failure.model_validate(caught.value.body)
        assert caught.value.type == "invalid_request_error"


async def test_requests_that_no_client_sends_are_answered_in_the_same_shape(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, *_), httpx.AsyncClient(base_url=client.url) as http:
        for status, kind, answered in (
            (405, "invalid_request_error", await http.get("/v1/messages")),
            (404, "not_found_error", await http.post("/v1/messages/batches", json={})),
            (400, "invalid_request_error", await http.post("/api/v1/messages", json=[])),
            (
                413,
                "request_too_large",
                await http.post("/v1/messages", json={"x": "x" * 9_000_000}),
            ),
            (415, "invalid_request_error", await http.post("/v1/messages", content=b"{}")),
        ):
            assert answered.status_code == status
            Failure.model_validate(answered.json())
            assert answered.json()["error"]["type"] == kind
            assert answered.headers["request-id"] == answered.json()["request_id"]


async def test_keys_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, auth="required") as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        # The client of today sends it the one way, and those of before and others the other.
        for header in ({"x-api-key": "sk-ant-x"}, {"authorization": "Bearer sk-ant-x"}, {}):
            refused = await http.post("/v1/messages", json=ASKED, headers=header)
            assert refused.status_code == 401
            error = refused.json()["error"]
            assert error["type"] == "authentication_error"
            code = "invalid_api_key" if header else "unauthenticated"
            assert error["details"]["error_code"] == code
            assert header or "X-Api-Key" in error["message"]


async def test_a_word_is_no_key_where_none_is_needed(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, _), httpx.AsyncClient() as http:
        for header in ({"x-api-key": "sk-ant-x"}, {"authorization": "Bearer sk-ant-x"}):
            asking = http.post(f"{client.url}/v1/messages", json=ASKED, headers=header)
            answered, _ = await both(asking, answer(miner, "hello"))
            assert answered.status_code == 200


async def test_what_no_miner_can_count_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api):
        with pytest.raises(anthropic.BadRequestError, match="tokenize") as caught:
            await api.messages.count_tokens(model="m", messages=USER)
        Failure.model_validate(caught.value.body)


async def test_a_limit_is_told_with_the_time_to_come_back(tmp_path: Path) -> None:
    # The miner's stream is a call, too.
    async with served(tmp_path, limit_requests_per_second=0.001, limit_burst=3) as (_, _, api):
        for _ in range(2):
            with pytest.raises(anthropic.NotFoundError):
                await api.messages.create(**{**ASKED, "model": "n"})
        with pytest.raises(anthropic.RateLimitError) as caught:
            await api.messages.create(**ASKED)
        assert caught.value.type == "rate_limit_error"
        assert int(caught.value.response.headers["retry-after"]) > 0


async def test_models_are_told_in_the_words_of_who_asks(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, _, api), httpx.AsyncClient() as http:
        [model] = (await api.models.list()).data
        assert (model.id, model.display_name, model.type) == ("m", "m", "model")
        assert (await api.models.retrieve("m")).to_dict() == model.to_dict()
        with pytest.raises(anthropic.NotFoundError):
            await api.models.retrieve("n")
        info = work_pb2.ModelInfo(model="m", max_model_len=512)
        async with client.miner("miner-2", infos=[info]):
            assert (await api.models.retrieve("m")).max_input_tokens == 512
        others = (await http.get(f"{client.url}/v1/models")).json()
        assert others["object"] == "list"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_cancels_its_job(tmp_path: Path, stream: bool) -> None:
    async with served(tmp_path) as (client, miner, api):
        asking = asyncio.create_task(api.messages.create(**ASKED, stream=stream))
        [assignment] = await miner.assignments()
        if stream:
            await miner.say(assignment.lease_id, "a", 0)
            events: Any = await asking
            await anext(events)
            await events.close()
        else:
            asking.cancel()
        [cancellation] = (await miner.expect("cancellations")).cancellations.cancellations
        assert cancellation.lease_id == assignment.lease_id
        await miner.fail(assignment.lease_id, "CANCELLED", retryable=False, sequence=1)
        job = await client.job(assignment.job.job_id, wait=10)
        assert job.status == jobs_pb2.JOB_STATUS_CANCELLED


async def test_a_repetition_with_a_key_is_answered_by_the_same_job(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        headers = {"Idempotency-Key": "once"}
        first, _ = await both(
            api.messages.create(**ASKED, extra_headers=headers), answer(miner, "hello")
        )
        again = await api.messages.create(**ASKED, extra_headers=headers)
        assert again.to_dict() == first.to_dict()


async def test_the_gateway_speaks_anthropics_words_too(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with served(tmp_path) as (client, miner, api):
        target = f"127.0.0.1:{client.coordinator.grpc_port}"
        running = asyncio.create_task(
            run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
        )
        there = api.with_options(base_url=f"http://127.0.0.1:{await ready}/api")
        done, _ = await both(there.messages.create(**ASKED), answer(miner, "hello"))
        assert done.content[0].text == "hello"
        streaming = asyncio.create_task(there.messages.create(**ASKED, stream=True))
        await answer(miner, "a", "b")
        deltas = [one async for one in await streaming if one.type == "content_block_delta"]
        assert [one.delta.text for one in deltas] == ["a", "b"]
        with pytest.raises(anthropic.NotFoundError):
            await there.messages.create(**{**ASKED, "model": "n"})
        stop.set()
        await running

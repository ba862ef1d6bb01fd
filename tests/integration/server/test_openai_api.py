"""The OpenAI API with OpenAI's own client, and a miner whose every word the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from aitbc.v1 import jobs_pb2, network_pb2, work_pb2
from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S, Client, FakeMiner, coordinator

USER: Any = [{"role": "user", "content": "hi"}]
WEATHER = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


_CALLS_WITHOUT_ID: Any = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ""}}],
}


_WITH_HOLOGRAM: Any = {
    "role": "user",
    "content": [{"type": "text", "text": "hi"}, {"type": "hologram", "hologram": "x"}],
}
_WITH_FILE: Any = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
}


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@asynccontextmanager
async def served(data: Path, **settings: Any) -> AsyncIterator[tuple[Client, FakeMiner, Any]]:
    async with (
        coordinator(data, **settings) as client,
        client.miner() as miner,
        openai.AsyncOpenAI(
            base_url=f"{client.url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE_S
        ) as api,
    ):
        yield client, miner, api


async def answer(
    miner: FakeMiner, *texts: str, reason: str = "stop", **more: Any
) -> work_pb2.Assignment:
    """Takes the next job and answers it, one delta for each text; returns what was assigned."""
    [assignment] = await miner.assignments()
    for sequence, text in enumerate(texts[:-1]):
        await miner.say(assignment.lease_id, text, sequence)
    completion = work_pb2.Completion(
        result="".join(texts),
        finish_reason=reason,
        usage=jobs_pb2.Usage(prompt_tokens=5, completion_tokens=len(texts)),
        **more,
    )
    update = work_pb2.Update(
        lease_id=assignment.lease_id, sequence=len(texts), completion=completion
    )
    await miner.send(updates=work_pb2.Updates(updates=[update]))
    await miner.expect("acks")
    return assignment


def likely(*tokens: str) -> list[jobs_pb2.TokenLogprob]:
    """Returns how likely each of these tokens was, and another in its place."""
    other = jobs_pb2.TokenLogprob(token="x", logprob=-1.5)  # noqa: S106 - a word
    return [jobs_pb2.TokenLogprob(token=token, logprob=-0.5, top=[other]) for token in tokens]


async def tell(miner: FakeMiner, lease_id: str, sequence: int, **delta: Any) -> None:
    """Says more of an answer, with what it has beside its text."""
    update = work_pb2.Update(
        lease_id=lease_id, sequence=sequence, delta=work_pb2.Delta(tokens=1, **delta)
    )
    await miner.send(updates=work_pb2.Updates(updates=[update]))


async def finish(miner: FakeMiner, lease_id: str, sequence: int, **completion: Any) -> None:
    """Ends an answer."""
    update = work_pb2.Update(
        lease_id=lease_id, sequence=sequence, completion=work_pb2.Completion(**completion)
    )
    await miner.send(updates=work_pb2.Updates(updates=[update]))


async def both(asking: Any, answering: Any) -> tuple[Any, Any]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(asking, answering)


async def test_a_chat_completion_is_a_job_with_what_was_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        asking = api.chat.completions.with_raw_response.create(
            model="m",
            messages=[
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "hi "}]},
            ],
            max_completion_tokens=7,
            temperature=0.5,
            seed=3,
            stop="END",
            user="me",
            extra_body={"top_k": 4},
        )
        raw, assigned = await both(asking, answer(miner, "hello ", "world"))
        job = assigned.job
        assert [(turn.role, turn.content) for turn in job.messages] == [
            ("system", "be brief"),
            ("user", "hi "),
        ]
        assert job.params == jobs_pb2.GenerationParams(
            max_tokens=7, temperature=0.5, seed=3, stop=["END"], top_k=4
        )
        completion = raw.parse()
        [choice] = completion.choices
        assert (choice.message.content, choice.finish_reason) == ("hello world", "stop")
        assert completion.usage is not None
        assert completion.usage.total_tokens == 7
        assert raw.headers["x-job-id"] == job.job_id
        stored = await client.job(job.job_id)
        assert stored.result == "hello world"
        assert (stored.user, dict(stored.metadata)) == ("me", {})
        assert not job.user


async def test_a_chat_is_streamed_as_it_is_made(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(
            api.chat.completions.create(
                model="m", messages=USER, stream=True, stream_options={"include_usage": True}
            )
        )
        [assignment] = await miner.assignments()
        await miner.say(assignment.lease_id, "é", 0)
        chunks = await asking
        first = await anext(chunks)
        assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
        assert (await anext(chunks)).choices[0].delta.content == "é"
        await miner.complete(assignment.lease_id, "é🙂", 1)
        rest = [chunk async for chunk in chunks]
        assert [c.choices[0].delta.content for c in rest if c.choices] == ["🙂", None]
        assert rest[-2].choices[0].finish_reason == "stop"
        assert rest[-1].usage is not None
        assert rest[-1].choices == []


async def test_n_answers_are_n_jobs(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(
            api.chat.completions.with_raw_response.create(model="m", messages=USER, n=2, seed=10)
        )
        one, two = await miner.assignments(2)
        assert (one.job.params.seed, two.job.params.seed) == (10, 11)
        await miner.complete(two.lease_id, "second")
        await miner.expect("acks")
        await miner.complete(one.lease_id, "first")
        await miner.expect("acks")
        raw = await asking
        assert [choice.message.content for choice in raw.parse().choices] == ["first", "second"]
        assert raw.headers["x-job-id"] == f"{one.job.job_id},{two.job.job_id}"

        streaming = asyncio.create_task(
            api.chat.completions.create(model="m", messages=USER, n=2, stream=True)
        )
        one, two = await miner.assignments(2)
        await miner.complete(two.lease_id, "second")
        await miner.complete(one.lease_id, "first")
        texts = {0: "", 1: ""}
        async for chunk in await streaming:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert texts == {0: "first", 1: "second"}


async def test_completions_take_prompts_raw(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        logprobs = [jobs_pb2.TokenLogprob(token=" a", logprob=-0.5)]  # noqa: S106 - a word
        asking = api.completions.create(model="m", prompt="Once", logprobs=0)
        done, assigned = await both(asking, answer(miner, " a", reason="length", logprobs=logprobs))
        assert (assigned.job.prompt, assigned.job.raw_prompt) == ("Once", True)
        assert assigned.job.params.max_tokens == 16
        [choice] = done.choices
        assert (choice.text, choice.finish_reason) == (" a", "length")
        assert choice.logprobs.token_logprobs == [-0.5]

        streaming = asyncio.create_task(
            api.completions.create(model="m", prompt="Once", stream=True)
        )
        await answer(miner, " a", " b")
        assert "".join([chunk.choices[0].text async for chunk in await streaming]) == " a b"


async def test_tools_and_forms_reach_the_miner_and_their_calls_the_client(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        call = jobs_pb2.ToolCall(id="call_1", name="weather", arguments='{"city":"Wien"}')
        asking = api.chat.completions.create(
            model="m",
            messages=USER,
            tools=[{"type": "function", "function": WEATHER}],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
        done, assigned = await both(
            asking, answer(miner, "", reason="tool_calls", tool_calls=[call])
        )
        assert assigned.job.tool_choice == "weather"
        assert json.loads(assigned.job.tools[0].parameters) == WEATHER["parameters"]
        [choice] = done.choices
        # The model was told to call it, and chose nothing.
        assert choice.finish_reason == "stop"
        assert choice.message.content is None
        assert choice.message.tool_calls[0].function.arguments == '{"city":"Wien"}'

        # The whole exchange goes back, as applications send it.
        history = [
            *USER,
            choice.message,
            {"role": "tool", "tool_call_id": "call_1", "content": "5"},
        ]
        asking = asyncio.create_task(
            api.chat.completions.create(
                model="m",
                messages=history,
                stream=True,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}},
                },
            )
        )
        assigned = await answer(miner, "{}")
        assert assigned.job.messages[1].tool_calls[0].name == "weather"
        assert assigned.job.messages[2].tool_call_id == "call_1"
        assert assigned.job.response_format.json_schema == '{"type":"object"}'
        assert [chunk async for chunk in await asking]


async def test_calls_are_streamed_in_parts_after_the_text(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        asking = asyncio.create_task(
            api.chat.completions.create(
                model="m",
                messages=USER,
                tools=[{"type": "function", "function": {**WEATHER, "strict": True}}],
                parallel_tool_calls=True,
                stream=True,
            )
        )
        [assignment] = await miner.assignments()
        assert assignment.job.parallel_tool_calls
        assert assignment.job.tools[0].strict
        lease_id = assignment.lease_id
        part = jobs_pb2.ToolCallPart
        await tell(miner, lease_id, 0, text="I look. ")
        chunks = await asking
        told = [(await anext(chunks)).choices[0].delta for _ in range(2)]
        assert (told[1].content, told[1].tool_calls) == ("I look. ", None)
        begin = part(index=0, id="call_1", name="weather")
        await tell(miner, lease_id, 1, tool_calls=[begin])
        [first] = (await anext(chunks)).choices[0].delta.tool_calls
        assert first.model_dump(exclude_unset=True) == {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": ""},
        }
        await tell(miner, lease_id, 2, tool_calls=[part(index=0, arguments='{"ci')])
        [more] = (await anext(chunks)).choices[0].delta.tool_calls
        assert more.model_dump(exclude_unset=True) == {
            "index": 0,
            "function": {"arguments": '{"ci'},
        }
        calls = [
            jobs_pb2.ToolCall(id="call_1", name="weather", arguments='{"city":"Graz"}'),
            jobs_pb2.ToolCall(id="call_2", name="weather", arguments="{}"),
        ]
        await finish(
            miner, lease_id, 3, result="I look. ", finish_reason="tool_calls", tool_calls=calls
        )
        *rest, last = [chunk.choices[0] async for chunk in chunks]
        parts = [one for choice in rest for one in choice.delta.tool_calls or ()]
        assert [(one.index, one.id, one.function.arguments) for one in parts] == [
            (0, None, 'ty":"Graz"}'),
            (1, "call_2", "{}"),
        ]
        assert last.finish_reason == "tool_calls"
        assert last.delta.model_dump(exclude_unset=True) == {}
        assert (await client.job(assignment.job.job_id)).tool_calls == calls


async def test_probabilities_come_with_the_text_of_their_tokens(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asked: Any = {"model": "m", "stream": True}
        chat = api.chat.completions.create(**asked, messages=USER, logprobs=True, top_logprobs=1)
        completion = api.completions.create(**asked, prompt="Once", logprobs=1)
        for asking in map(asyncio.create_task, (chat, completion)):
            [assignment] = await miner.assignments()
            lease_id = assignment.lease_id
            await tell(miner, lease_id, 0, text="ab", logprobs=likely("a", "b"))
            chunks = await asking
            first = await anext(chunks)
            if first.object == "chat.completion.chunk":
                assert first.choices[0].logprobs is None
                first = await anext(chunks)
            await tell(miner, lease_id, 1, text="🙂", logprobs=likely("", "🙂"))
            second = await anext(chunks)
            tokens = likely("a", "b", "", "🙂", "c", "")
            await finish(miner, lease_id, 2, result="ab🙂c", logprobs=tokens)
            rest = [chunk async for chunk in chunks]
            told = [chunk.choices[0] for chunk in (first, second, *rest)]
            assert told[-1].finish_reason == "stop"
            if first.object == "chat.completion.chunk":
                assert [
                    [one.token for one in choice.logprobs.content]
                    for choice in told
                    if choice.logprobs
                ] == [["a", "b"], ["", "🙂"], ["c", ""]]
                one = told[1].logprobs.content[1].model_dump()
                assert one["bytes"] == [240, 159, 153, 130]
                assert one["top_logprobs"] == [{"token": "x", "bytes": [120], "logprob": -1.5}]
            else:
                assert [choice.logprobs.tokens for choice in told if choice.logprobs] == [
                    ["a", "b"],
                    ["", "🙂"],
                    ["c", ""],
                ]
                offsets = [
                    o for choice in told if choice.logprobs for o in choice.logprobs.text_offset
                ]
                assert offsets == [0, 1, 2, 2, 3, 4]
                assert told[0].logprobs.top_logprobs == [
                    {"a": -0.5, "x": -1.5},
                    {"b": -0.5, "x": -1.5},
                ]
            await miner.expect("acks")


async def test_the_next_miner_is_told_the_probabilities_and_goes_on_after_them(
    tmp_path: Path,
) -> None:
    settings = {"lease_seconds": 2, "heartbeat_seconds": 0.5}
    async with served(tmp_path, **settings) as (client, miner, api):
        asking = asyncio.create_task(
            api.completions.create(model="m", prompt="Once", logprobs=1, stream=True)
        )
        [assignment] = await miner.assignments()
        await tell(miner, assignment.lease_id, 0, text="ab", logprobs=likely("a", "b"))
        chunks = await asking
        told = [(await anext(chunks)).choices[0]]
        miner.call.cancel()
        while (await client.job(assignment.job.job_id)).status != jobs_pb2.JOB_STATUS_PENDING:
            pass
        async with client.miner("miner-2") as heir:
            [again] = await heir.assignments()
            assert (again.resume.text, list(again.resume.logprobs)) == ("ab", likely("a", "b"))
            await tell(heir, again.lease_id, 1, text="c", logprobs=likely("c"))
            told.append((await anext(chunks)).choices[0])
            await finish(
                heir, again.lease_id, 2, result="abcd", logprobs=likely("a", "b", "c", "d")
            )
            told += [chunk.choices[0] async for chunk in chunks]
        assert "".join(choice.text for choice in told) == "abcd"
        tokens = [token for one in told if one.logprobs for token in one.logprobs.tokens]
        assert tokens == ["a", "b", "c", "d"]


async def test_a_call_that_another_miner_begins_anew_ends_the_stream(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        asking = asyncio.create_task(
            api.chat.completions.create(
                model="m",
                messages=USER,
                tools=[{"type": "function", "function": WEATHER}],
                stream=True,
            )
        )
        [assignment] = await miner.assignments()
        begin = jobs_pb2.ToolCallPart(index=0, id="one", name="weather", arguments="{")
        await tell(miner, assignment.lease_id, 0, tool_calls=[begin])
        chunks = await asking
        for _ in range(2):
            await anext(chunks)
        await miner.fail(assignment.lease_id, sequence=1)
        async with client.miner("miner-2") as heir:
            [again] = await heir.assignments()
            assert not again.HasField("resume")
            call = jobs_pb2.ToolCall(id="two", name="weather", arguments="{}")
            await finish(heir, again.lease_id, 0, finish_reason="tool_calls", tool_calls=[call])
            with pytest.raises(openai.APIError, match="anew"):
                async for _ in chunks:
                    pass


async def test_errors_have_openais_shape(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        create: Any = api.chat.completions.create

        async def refused(kind: type[openai.APIStatusError], **request: Any) -> Any:
            with pytest.raises(kind) as caught:
                await create(**{"model": "m", "messages": USER, **request})
            assert isinstance(caught.value.body, dict)
            return caught.value.body

        unknown = await refused(openai.NotFoundError, model="gpt-9")
        assert (unknown["code"], unknown["param"]) == ("model_not_found", "model")
        assert "gpt-9" in unknown["message"]
        assert "served now: m." in unknown["message"]
        for name, value in (
            ("use_beam_search", True),
            ("audio", {"voice": "x", "format": "mp3"}),
            ("modalities", ["text", "audio"]),
            ("functions", [WEATHER]),
        ):
            error = await refused(openai.BadRequestError, extra_body={name: value})
            assert (error["code"], error["param"]) == ("unsupported_parameter", name)
            assert name in error["message"]
        error = await refused(openai.BadRequestError, temperature=9)
        assert (error["param"], error["type"]) == ("temperature", "invalid_request_error")
        error = await refused(openai.BadRequestError, messages=[{"role": "a king", "content": ""}])
        assert error["param"] == "messages[0].role"
        error = await refused(openai.BadRequestError, n=129)
        assert error["param"] == "n"

        tool = {"type": "function", "function": WEATHER}
        for param, message, request in (
            (
                "tools[0].function.name",
                "Missing",
                {"tools": [{"type": "function", "function": {}}]},
            ),
            ("tools[0]", "web_search", {"tools": [{"type": "web_search"}]}),
            ("tools[0].function.name", "control", {"tools": [_named("a\nb")]}),
            ("tool_choice", "weather", {"tools": [tool], "tool_choice": _named("wether")}),
            ("tool_choice", "'tools'", {"tool_choice": _named("weather")}),
            ("tool_choice", "'tools'", {"tool_choice": "required"}),
            ("messages[0].tool_calls[0].id", "Missing", {"messages": [_CALLS_WITHOUT_ID]}),
            ("messages[0].content[1]", "'hologram'", {"messages": [_WITH_HOLOGRAM]}),
            (
                "messages[0].content[0].image_url.url",
                "Missing",
                {"messages": [{"role": "user", "content": [{"image_url": {}}]}]},
            ),
            ("messages[0].content", "list", {"messages": [{"role": "user", "content": 5}]}),
            ("messages[0].content[0].image_url.url", "https:", {"messages": [_WITH_FILE]}),
            ("response_format", "'xml'", {"response_format": {"type": "xml"}}),
            ("tool_choice", "'magic'", {"tools": [tool], "tool_choice": {"type": "magic"}}),
            ("tool_choice", "'auto'", {"tools": [tool], "tool_choice": "any"}),
        ):
            error = await refused(openai.BadRequestError, **request)
            assert error["param"] == param, error
            assert message in error["message"], error

        # What the engine refuses is told before the first byte, in a stream too.
        for stream in (False, True):
            asking = asyncio.create_task(refused(openai.BadRequestError, stream=stream))
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id, "BAD_REQUEST", retryable=False)
            assert (await asking)["code"] == "invalid_value"
            await miner.expect("acks")


async def test_a_request_that_is_set_aside_is_told_so_and_not_sent_again(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        openai.AsyncOpenAI(
            base_url=f"{client.url}/v1", api_key="unused", max_retries=3, timeout=PATIENCE_S
        ) as api,
    ):
        create: Any = api.chat.completions.create
        async with client.miner() as miner:
            asking = asyncio.create_task(create(model="m", messages=USER))
            await miner.assignments()
        async with client.miner() as miner:
            await miner.assignments()
        async with client.miner():
            with pytest.raises(openai.InternalServerError, match="processes vanished") as caught:
                await asking
        assert caught.value.code == "poison"
        listed = await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())
        assert len(listed.jobs) == 1


async def test_what_a_miner_blames_is_the_parameter_of_the_error(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        create: Any = api.chat.completions.create
        asking = asyncio.create_task(create(model="m", messages=USER))
        [assignment] = await miner.assignments()
        failure = work_pb2.Failure(code="BAD_REQUEST", message="tools: there is no parser")
        update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
        await miner.send(updates=work_pb2.Updates(updates=[update]))
        with pytest.raises(openai.BadRequestError, match="no parser") as caught:
            await asking
        assert caught.value.param == "tools"


async def test_a_prompt_that_is_too_long_is_told_in_openais_words(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        message = "This model's maximum context length is 8 tokens."
        failure = work_pb2.Failure(
            code="CONTEXT_LENGTH_EXCEEDED", message=message, fault=work_pb2.FAULT_JOB
        )
        for asking, param in (
            (api.chat.completions.create(model="m", messages=USER), "messages"),
            (api.completions.create(model="m", prompt="x"), "prompt"),
        ):
            task = asyncio.ensure_future(asking)
            [assignment] = await miner.assignments()
            update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
                await task
            assert (caught.value.code, caught.value.param) == ("context_length_exceeded", param)
            await miner.expect("acks")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_a_miner_refuses_is_named_as_the_call_has_it(
    tmp_path: Path, is_streamed: bool
) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
    shown = [{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}]
    part = "messages[0].parts[1]: the model takes no part of type image_url"
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        for path, body, code, message, told in (
            (
                "/v1/chat/completions",
                {"messages": shown},
                "UNSUPPORTED_PART",
                part,
                ("unsupported_parameter", "messages[0].content[1]"),
            ),
            (
                "/v1/chat/completions",
                {"messages": USER},
                "CONTEXT_LENGTH_EXCEEDED",
                "too long",
                ("context_length_exceeded", "messages"),
            ),
            (
                "/v1/completions",
                {"prompt": [1]},
                "CONTEXT_LENGTH_EXCEEDED",
                "too long",
                ("context_length_exceeded", "prompt"),
            ),
            (
                "/v1/completions",
                {"prompt": [1]},
                "BAD_REQUEST",
                "prompt_token_ids: token 1 is none of the model's",
                ("invalid_value", "prompt"),
            ),
            (
                "/v1/completions",
                {"prompt": "x", "vllm_xargs": {"a": 1}},
                "BAD_REQUEST",
                "extra_args: there is no a",
                ("invalid_value", "vllm_xargs"),
            ),
        ):
            asks = {"model": "m", "stream": is_streamed, **body}
            asking = asyncio.create_task(http.post(path, json=asks))
            [assignment] = await miner.assignments()
            failure = work_pb2.Failure(code=code, message=message, fault=work_pb2.FAULT_JOB)
            update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            await miner.expect("acks")
            refused = await asking
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["param"]) == (400, *told)
            if message != "too long":
                assert error["message"].startswith(f"{told[1]}: ")


async def test_an_answer_that_was_filtered_says_so(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        filtered = {"reason": "content_filter"}
        chat, _ = await both(
            api.chat.completions.create(model="m", messages=USER), answer(miner, "I", **filtered)
        )
        assert chat.choices[0].finish_reason == "content_filter"
        text, _ = await both(
            api.completions.create(model="m", prompt="x"), answer(miner, "I", **filtered)
        )
        assert text.choices[0].finish_reason == "content_filter"
        response, _ = await both(
            api.responses.create(model="m", input="x"), answer(miner, "I", **filtered)
        )
        assert response.status == "incomplete"
        assert response.incomplete_details.reason == "content_filter"
        assert response.output[0].status == "incomplete"
        stream, _ = await both(
            api.responses.create(model="m", input="x", stream=True),
            answer(miner, "I", **filtered),
        )
        assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_bytes_that_a_tokens_text_does_not_tell_are_passed_on(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        half = jobs_pb2.TokenLogprob(
            token="\\xf0\\x9f",  # noqa: S106 - a word
            logprob=-0.5,
            bytes=b"\xf0\x9f",
        )
        asks: Any = {"model": "m", "messages": USER, "logprobs": True, "top_logprobs": 1}
        asking = api.chat.completions.create(**asks)
        done, _ = await both(asking, answer(miner, "x", logprobs=[half, *likely("ü")]))
        told = done.choices[0].logprobs.content
        assert [one.bytes for one in told] == [[240, 159], [195, 188]]


async def test_usage_that_was_estimated_is_marked_as_such(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, _):
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        usage = jobs_pb2.Usage(prompt_tokens=5, completion_tokens=1, is_estimated=True)
        await finish(miner, assignment.lease_id, 0, result="x", finish_reason="stop", usage=usage)
        await miner.expect("acks")
        assert (await client.job(job_id)).usage == usage


async def test_requests_that_no_client_sends_are_answered_in_the_same_shape(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, _, _api),
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        for method, path, body, status in (
            ("GET", "/v1/chat/completions", b"", 405),
            ("POST", "/v1/chat/completions", b"{", 400),
            ("POST", "/v1/completions", b"[]", 400),
            ("GET", "/v1/models/none", b"", 404),
            ("GET", "/v1/responses/nope", b"", 404),
            ("GET", "/v1/responses/resp_nope", b"", 404),
            ("DELETE", "/v1/responses/resp_nope", b"", 404),
            ("PUT", "/v1/responses/resp_nope", b"", 405),
            ("GET", "/v1/responses/resp_nope/input_items", b"", 404),
        ):
            told = await http.request(
                method, path, content=body, headers={"content-type": "application/json"}
            )
            assert told.status_code == status, (method, path, told.text)
            assert set(told.json()["error"]) == {"message", "type", "param", "code"}


async def test_models_are_what_is_served(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _miner, api):
        listed = await api.models.list()
        assert [model.id for model in listed.data] == ["m"]
        found = await api.models.retrieve("m")
        assert (found.owned_by, found.to_dict()["root"]) == ("aitbc", "m")
        assert found.created > 1_700_000_000
        assert found.to_dict()["max_model_len"] is None
        with pytest.raises(openai.NotFoundError):
            await api.models.retrieve("n")


async def test_models_say_how_long_their_context_is(tmp_path: Path) -> None:
    infos = [work_pb2.ModelInfo(model="m", max_model_len=4096)]
    async with served(tmp_path) as (client, _, api), client.miner("miner-2", infos=infos):
        assert (await api.models.retrieve("m")).to_dict()["max_model_len"] == 4096


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_word_that_is_no_key_is_a_wrong_one_where_keys_are_needed(
    tmp_path: Path, is_streamed: bool
) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        url = f"{client.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-wrong", max_retries=0) as api:
            asks: dict[str, Any] = {"model": "m", "messages": USER, "stream": is_streamed}
            for asking in (api.chat.completions.create(**asks), api.models.retrieve("m")):
                with pytest.raises(openai.AuthenticationError) as caught:
                    await asking
                assert caught.value.code == "invalid_api_key"
                assert caught.value.type == "invalid_request_error"
            with pytest.raises(openai.AuthenticationError):
                await api.models.list()
            async with httpx.AsyncClient(base_url=url) as http:
                without = (await http.post("/chat/completions", json=asks)).json()["error"]
            assert (without["code"], without["param"]) == ("unauthenticated", None)
            assert "Authorization: Bearer" in without["message"]


async def test_adapters_are_models_that_name_their_parent(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, _, api), client.miner("miner-2", adapters=["legal"]):
        m, legal = sorted((await api.models.list()).data, key=lambda model: model.id != "m")
        assert (legal.id, legal.to_dict()["parent"]) == ("legal", "m")
        assert m.to_dict()["parent"] is None
        assert (await api.models.retrieve("legal")).to_dict() == legal.to_dict()
        stats = await client.network.GetStats(network_pb2.GetStatsRequest())
        assert {one.model: one.parent for one in stats.models} == {"m": "", "legal": "m"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_cancels_its_job(tmp_path: Path, stream: bool) -> None:
    async with served(tmp_path) as (client, miner, api):
        asking = asyncio.create_task(
            api.chat.completions.create(model="m", messages=USER, stream=stream)
        )
        [assignment] = await miner.assignments()
        if stream:
            await miner.say(assignment.lease_id, "a", 0)
            chunks: Any = await asking
            await anext(chunks)
            await chunks.close()
        else:
            asking.cancel()
        begin = asyncio.get_running_loop().time()
        [cancellation] = (await miner.expect("cancellations")).cancellations.cancellations
        assert asyncio.get_running_loop().time() - begin < 1
        assert cancellation.lease_id == assignment.lease_id
        await miner.fail(assignment.lease_id, "CANCELLED", retryable=False, sequence=1)
        job = await client.job(assignment.job.job_id, wait=10)
        assert job.status == jobs_pb2.JOB_STATUS_CANCELLED


async def test_a_response_is_a_job_that_can_be_retrieved(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = api.responses.create(model="m", input="hi", instructions="be brief")
        made, assigned = await both(asking, answer(miner, "hello"))
        assert [(t.role, t.content) for t in assigned.job.messages] == [
            ("system", "be brief"),
            ("user", "hi"),
        ]
        assert (made.status, made.output_text) == ("completed", "hello")
        assert made.usage.total_tokens == 6
        found = await api.responses.retrieve(made.id)
        assert found.output_text == "hello"

        asking = api.responses.create(model="m", input="and?", previous_response_id=made.id)
        following, assigned = await both(asking, answer(miner, "that is all", reason="length"))
        assert [t.content for t in assigned.job.messages] == ["hi", "hello", "and?"]
        assert following.status == "incomplete"
        assert assigned.job.conversation_id


async def test_a_response_in_the_background_is_read_from_anywhere(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        queued = await api.responses.create(model="m", input="hi", background=True)
        assert queued.status == "queued"
        # Acknowledged: stored.
        await answer(miner, "Gr", "üß ", "🙂")
        assert (await api.responses.retrieve(queued.id)).status == "completed"
        whole = [event async for event in await api.responses.retrieve(queued.id, stream=True)]
        numbers = [event.sequence_number for event in whole]
        assert numbers == sorted(set(numbers))
        assert whole[0].type == "response.created"
        assert whole[-1].type == "response.completed"
        assert whole[-1].response.output_text == "Grüß 🙂"
        for after in range(3, 3 + len(b"Gr") + 1):
            rest = await api.responses.retrieve(queued.id, stream=True, starting_after=after)
            events = [event async for event in rest]
            assert events[0].sequence_number > after
            text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
            assert text == "Grüß 🙂"[after - 3 :]
        last = await api.responses.retrieve(queued.id, stream=True, starting_after=numbers[-1])
        assert [event async for event in last] == []


async def test_a_response_is_streamed_and_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        streaming = asyncio.create_task(
            api.responses.create(model="m", input="hi", background=True, stream=True)
        )
        [assignment] = await miner.assignments()
        events = await streaming
        created = await anext(events)
        await events.close()
        # Its reader has gone and it goes on.
        response_id = created.response.id
        assert (await api.responses.retrieve(response_id)).status == "in_progress"
        cancelling = asyncio.create_task(api.responses.cancel(response_id))
        await miner.expect("cancellations")
        await miner.fail(assignment.lease_id, "CANCELLED", retryable=False)
        cancelled = await cancelling
        assert cancelled.status == "cancelled"
        assert await api.responses.cancel(response_id) == cancelled
        await api.responses.delete(response_id)
        for call in (api.responses.retrieve, api.responses.delete):
            with pytest.raises(openai.NotFoundError, match="not found"):
                await call(response_id)


async def test_a_response_that_has_ended_is_cancelled_as_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        queued = await api.responses.create(model="m", input="hi", background=True)
        assigned = await answer(miner, "fine")
        await client.job(assigned.job.job_id, wait=5)
        ended = await api.responses.cancel(queued.id)
        assert (ended.status, ended.output_text) == ("completed", "fine")
        made, _ = await both(api.responses.create(model="m", input="hi"), answer(miner, "fine"))
        with pytest.raises(openai.BadRequestError, match="synchronous response") as caught:
            await api.responses.cancel(made.id)
        assert caught.value.param == "response_id"


async def test_calls_of_tools_are_items_of_a_response(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        call = jobs_pb2.ToolCall(id="call_1", name="weather", arguments="{}")
        tool: Any = {"type": "function", "strict": False, **WEATHER}
        streaming = asyncio.create_task(
            api.responses.create(
                model="m", input="hi", stream=True, tools=[tool], tool_choice="required"
            )
        )
        assigned = await answer(miner, "", reason="tool_calls", tool_calls=[call])
        assert assigned.job.tool_choice == "required"
        events = [event async for event in await streaming]
        assert events[-1].type == "response.completed"
        [item] = events[-1].response.output
        assert (item.type, item.call_id) == ("function_call", "call_1")
        done: Any = [
            {"role": "user", "content": "hi"},
            item,
            {"type": "function_call_output", "call_id": "call_1", "output": "5"},
        ]
        asking = api.responses.create(model="m", input=done)
        _, assigned = await both(asking, answer(miner, "5 degrees"))
        assert [t.role for t in assigned.job.messages] == ["user", "assistant", "tool"]


async def test_the_gateway_speaks_openai_too(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with served(tmp_path) as (client, miner, api):
        target = f"127.0.0.1:{client.coordinator.grpc_port}"
        running = asyncio.create_task(
            run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
        )
        there = api.with_options(base_url=f"http://127.0.0.1:{await ready}/api/v1")
        asking = there.chat.completions.create(model="m", messages=USER)
        done, _ = await both(asking, answer(miner, "hello"))
        assert done.choices[0].message.content == "hello"
        streaming = asyncio.create_task(
            there.chat.completions.create(model="m", messages=USER, stream=True)
        )
        await answer(miner, "a", "b")
        texts = [chunk.choices[0].delta.content async for chunk in await streaming]
        assert "".join(text or "" for text in texts) == "ab"
        with pytest.raises(openai.NotFoundError):
            await there.chat.completions.create(model="n", messages=USER)
        stop.set()
        await running

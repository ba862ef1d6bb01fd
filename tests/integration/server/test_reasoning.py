"""What a model thinks before it answers, from the miner's stream to every kind of reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.v1 import jobs_pb2
from tests.integration.server.harness import PATIENCE_S, Client, FakeMiner, coordinator
from tests.integration.server.test_deleting_jobs import erased
from tests.integration.server.test_job_stream import Stream, reading
from tests.integration.server.test_openai_api import (
    USER,
    answer,
    both,
    finish,
    likely,
    served,
    tell,
)

THOUGHTS = ["Zwölf ", "oder? 🙂"]
THOUGHT = "".join(THOUGHTS)
USAGE = jobs_pb2.Usage(prompt_tokens=5, completion_tokens=4, reasoning_tokens=2)


class Reader:
    """Reads a job's stream as a client does that shows reasoning and answer."""

    def __init__(self, stream: Stream, reasoning: str = "", text: str = "") -> None:
        self._stream = stream
        self.reasoning = reasoning
        self.text = stream.text = text
        self.names: list[str] = []

    @property
    def last_id(self) -> str:
        return self._stream.last_id

    async def expect(self, reasoning: str, text: str = "") -> None:
        """Reads until it has this and no more."""
        while (self.reasoning, self.text) != (reasoning, text):
            await self._next()

    async def end(self) -> dict[str, Any]:
        """Reads on to the end; returns the final job."""
        while (event := await self._next()).name != "final":
            pass
        job: dict[str, Any] = event.data["job"]
        return job

    async def _next(self) -> Any:
        event = await self._stream.next()
        assert event is not None
        self.names.append(event.name)
        if event.name == "restarted":
            self.reasoning = self.text = ""
        self.reasoning += event.data.get("reasoning", "")
        self.text += event.data.get("text", "")
        return event


@asynccontextmanager
async def following(
    client: Client, job_id: str, before: Reader | None = None
) -> AsyncIterator[Reader]:
    """Follows a job, from where another reader was."""
    async with reading(client, job_id, after=before.last_id if before else "") as stream:
        yield Reader(stream, before.reasoning, before.text) if before else Reader(stream)


async def think(miner: FakeMiner, lease_id: str) -> None:
    for sequence, thought in enumerate(THOUGHTS):
        await tell(miner, lease_id, sequence, reasoning=thought)


async def conclude(miner: FakeMiner, lease_id: str, sequence: int, **more: Any) -> None:
    """Ends an answer that was thought about."""
    told = {"result": "12", "reasoning": THOUGHT, "finish_reason": "stop", "usage": USAGE, **more}
    await finish(miner, lease_id, sequence, **told)
    await miner.expect("acks")


async def test_reasoning_streams_and_is_kept(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        async with following(client, job_id) as reader:
            await tell(miner, assignment.lease_id, 0, reasoning=THOUGHTS[0])
            await reader.expect(THOUGHTS[0])
            await tell(miner, assignment.lease_id, 1, reasoning=THOUGHTS[1])
            await tell(miner, assignment.lease_id, 2, text="1")
            await reader.expect(THOUGHT, "1")
            await conclude(miner, assignment.lease_id, 3)
            final = await reader.end()
        assert (reader.reasoning, reader.text) == (THOUGHT, "12")
        # As of the text, the deltas told it.
        assert "reasoning" not in final
        assert final["usage"]["reasoning_tokens"] == 2
        job = await client.job(job_id)
        assert (job.reasoning, job.result, job.usage) == (THOUGHT, "12", USAGE)
        async with httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http:
            shown = (await http.get(f"/v1/jobs/{job_id}")).json()
            assert shown["reasoning"] == THOUGHT
            receipt = (await http.get(f"/v1/receipts/{job.receipt_id}")).text
            page = await http.get(f"/explorer/receipts/{job.receipt_id}")
        for public in (receipt, page.text):
            assert THOUGHTS[0] not in public


async def test_an_answer_without_reasoning_is_told_as_before(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, "12", tokens=1)
        job = await client.job(job_id, wait=10)
        assert not job.usage.HasField("reasoning_tokens")
        async with reading(client, job_id) as stream:
            delta = await stream.expect("delta")
        assert sorted(delta.data) == ["event_id", "offset", "text", "type"]
        assert delta.event_id.count("-") == 1


async def test_every_delta_has_a_text_for_readers_that_know_no_reasoning(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit(tools=[jobs_pb2.Tool(name="f")])
        [assignment] = await miner.assignments()
        await think(miner, assignment.lease_id)
        part, call = jobs_pb2.ToolCallPart(id="c", name="f"), jobs_pb2.ToolCall(id="c", name="f")
        await tell(miner, assignment.lease_id, 2, tool_calls=[part])
        await conclude(miner, assignment.lease_id, 3, tool_calls=[call])
        async with reading(client, job_id) as stream:
            texts = []
            while (event := await stream.next()) is not None:
                if event.name == "delta":
                    texts.append(event.data["text"])
        assert "".join(texts) == "12"
        assert len(texts) > 1


async def test_a_reader_comes_back_in_the_middle_of_the_reasoning(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await tell(miner, assignment.lease_id, 0, reasoning=THOUGHTS[0])
        async with following(client, job_id) as reader:
            await reader.expect(THOUGHTS[0])
        await tell(miner, assignment.lease_id, 1, reasoning=THOUGHTS[1])
        async with following(client, job_id, reader) as back:
            await back.expect(THOUGHT)
        await conclude(miner, assignment.lease_id, 2)
        # Also after the end, from either place.
        for earlier in (reader, back):
            async with following(client, job_id, earlier) as late:
                await late.end()
            assert (late.reasoning, late.text) == (THOUGHT, "12")
            assert "restarted" not in late.names
        async with following(client, job_id, late) as over, httpx.AsyncClient() as http:
            url = f"{client.url}/v1/jobs/{job_id}/stream"
            answered = await http.get(url, headers={"last-event-id": over.last_id or late.last_id})
            assert answered.status_code == 204


async def test_who_says_only_how_much_of_the_text_it_has_is_told_no_reasoning(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await think(miner, assignment.lease_id)
        await tell(miner, assignment.lease_id, 2, text="1")
        async with following(client, job_id) as reader:
            await reader.expect(THOUGHT, "1")
        request = jobs_pb2.StreamJobRequest(job_id=job_id, from_offset=1)
        live = client.jobs.StreamJob(request)
        events: list[Any] = [await live.read()]
        await conclude(miner, assignment.lease_id, 3)
        while isinstance(event := await live.read(), jobs_pb2.JobEvent):
            events.append(event)
        late = [event async for event in client.jobs.StreamJob(request)]
        assert [(one.reasoning, one.text) for one in events] == [("", ""), ("", "2"), ("", "")]
        assert [(one.reasoning, one.text) for one in late] == [("", "2"), ("", "")]


async def test_a_restart_of_the_coordinator_in_the_middle_of_the_reasoning(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with following(client, job_id) as reader, client.miner() as miner:
            [assignment] = await miner.assignments()
            await think(miner, assignment.lease_id)
            await reader.expect(THOUGHT)
            await client.coordinator.drain()
            await client.coordinator.stop()
    async with coordinator(tmp_path) as client, following(client, job_id, reader) as back:
        # Back before its miner is, which tells all of it again.
        async with client.miner(held=[assignment.lease_id]) as miner:
            await tell(miner, assignment.lease_id, 0, reasoning=THOUGHT + "!")
            await back.expect(THOUGHT + "!")
            await conclude(miner, assignment.lease_id, 1, reasoning=THOUGHT + "!")
            await back.end()
        assert (back.reasoning, back.text) == (THOUGHT + "!", "12")
        assert "restarted" not in back.names


@pytest.mark.parametrize("text", ["", "1"])
async def test_another_miner_begins_what_was_thought_about_anew(tmp_path: Path, text: str) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with following(client, job_id) as reader:
            async with client.miner("first") as miner:
                [assignment] = await miner.assignments()
                await tell(miner, assignment.lease_id, 0, reasoning="Thirteen", text=text)
                await reader.expect("Thirteen", text)
                await miner.fail(assignment.lease_id, sequence=1)
                await miner.expect("acks")
            async with client.miner("second") as miner:
                [assignment] = await miner.assignments()
                assert not assignment.HasField("resume")
                await think(miner, assignment.lease_id)
                await reader.expect(THOUGHT)
                assert reader.names.count("restarted") == 1
                await conclude(miner, assignment.lease_id, 2)
                await reader.end()
        assert (reader.reasoning, reader.text) == (THOUGHT, "12")


async def test_reasoning_that_memory_has_no_room_for_is_told_with_the_result(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path, stream_memory_bytes=64) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        async with following(client, job_id) as reader:
            long = "x" * 1000
            await tell(miner, assignment.lease_id, 0, reasoning=long)
            await conclude(miner, assignment.lease_id, 1, reasoning=long)
            await reader.end()
        assert (reader.reasoning, reader.text) == (long, "12")


async def test_what_is_deleted_is_deleted_with_its_reasoning(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        thought = "a-thought-that-nobody-is-to-find"
        await conclude(miner, assignment.lease_id, 0, reasoning=thought)
        await client.jobs.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id))
        await erased(tmp_path, thought)


async def test_chat_tells_reasoning_in_both_words(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = api.chat.completions.create(model="m", messages=USER)
        done, _ = await both(asking, answer_thought(miner))
        message = done.choices[0].message
        assert message.content == "12"
        assert (message.reasoning_content, message.reasoning) == (THOUGHT, THOUGHT)
        assert done.usage.completion_tokens_details.reasoning_tokens == 2
        plain, _ = await both(
            api.chat.completions.create(model="m", messages=USER), answer(miner, "12")
        )
        shown = plain.to_dict()
        assert sorted(shown["choices"][0]["message"]) == ["content", "refusal", "role"]
        assert sorted(shown["usage"]) == ["completion_tokens", "prompt_tokens", "total_tokens"]
        hidden = api.chat.completions.create(
            model="m", messages=USER, extra_body={"include_reasoning": False}
        )
        done, _ = await both(hidden, answer_thought(miner))
        assert "reasoning" not in done.choices[0].message.to_dict()
        # What it took is told all the same.
        assert done.usage.completion_tokens_details.reasoning_tokens == 2


async def test_chat_streams_reasoning_before_the_text(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asked: Any = {"model": "m", "messages": USER, "stream": True, "logprobs": True}
        usage: Any = {"include_usage": True}
        asking = asyncio.create_task(api.chat.completions.create(**asked, stream_options=usage))
        await answer_thought(miner, logprobs=likely("Zwölf ", "oder? 🙂", "1", "2"))
        chunks = [chunk async for chunk in await asking]
        deltas = [chunk.choices[0].delta.to_dict() for chunk in chunks if chunk.choices]
        thought = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
        assert "".join(thought) == THOUGHT
        assert "".join(delta.get("reasoning", "") for delta in deltas) == THOUGHT
        assert "".join(delta.get("content", "") for delta in deltas) == "12"
        first_text = next(i for i, delta in enumerate(deltas) if delta.get("content"))
        assert not any("reasoning" in delta for delta in deltas[first_text:])
        told = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices]
        tokens = [one.token for part in told if part for one in part.content]
        assert tokens == ["Zwölf ", "oder? 🙂", "1", "2"]
        assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 2

        hidden: Any = {"include_reasoning": False}
        asking = asyncio.create_task(api.chat.completions.create(**asked, extra_body=hidden))
        await answer_thought(miner, logprobs=likely("Zwölf ", "oder? 🙂", "1", "2"))
        whole = [chunk.to_dict() async for chunk in await asking]
        assert "reasoning" not in str(whole)
        assert "Zwölf" not in str(whole)


@pytest.mark.parametrize("word", ["reasoning", "reasoning_content"])
async def test_a_conversation_goes_on_with_what_the_assistant_thought(
    tmp_path: Path, word: str
) -> None:
    turns: Any = [
        *USER,
        {"role": "assistant", "content": "12", word: THOUGHT},
        {"role": "user", "content": "Sure?", word: None},
    ]
    async with served(tmp_path) as (_, miner, api):
        asking = api.chat.completions.create(model="m", messages=turns)
        _, assigned = await both(asking, answer(miner, "yes"))
        assert [turn.reasoning for turn in assigned.job.messages] == ["", THOUGHT, ""]
        # The message of an answer goes back as it came.
        asking = api.chat.completions.create(model="m", messages=USER)
        done, _ = await both(asking, answer_thought(miner))
        again = api.chat.completions.create(model="m", messages=[*USER, done.choices[0].message])
        _, assigned = await both(again, answer(miner, "yes"))
        assert [turn.reasoning for turn in assigned.job.messages] == ["", THOUGHT]


async def test_reasoning_is_an_item_of_a_response(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        made, _ = await both(api.responses.create(model="m", input="hi"), answer_thought(miner))
        reasoning, message = made.output
        assert (reasoning.type, reasoning.status, reasoning.summary) == (
            "reasoning",
            "completed",
            [],
        )
        assert [(one.type, one.text) for one in reasoning.content] == [("reasoning_text", THOUGHT)]
        assert (message.type, made.output_text) == ("message", "12")
        assert made.usage.output_tokens_details.reasoning_tokens == 2
        # The items go back as they came.
        turns: Any = [{"role": "user", "content": "hi"}, *made.output]
        turns.append({"role": "user", "content": "Sure?"})
        _, assigned = await both(api.responses.create(model="m", input=turns), answer(miner, "yes"))
        told = [(turn.role, turn.content, turn.reasoning) for turn in assigned.job.messages]
        assert told == [("user", "hi", ""), ("assistant", "12", THOUGHT), ("user", "Sure?", "")]
        asking = api.responses.create(model="m", input="Sure?", previous_response_id=made.id)
        _, assigned = await both(asking, answer(miner, "yes"))
        assert [turn.reasoning for turn in assigned.job.messages] == ["", THOUGHT, ""]


async def test_reasoning_in_the_input_of_a_response_belongs_to_what_follows_it(
    tmp_path: Path,
) -> None:
    items: Any = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "5"},
        {
            "type": "reasoning",
            "id": "rs_2",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "5, then"}],
            "encrypted_content": "gAAA",
            "status": "completed",
        },
        {"role": "assistant", "content": "5"},
        {"type": "reasoning", "summary": [], "id": "rs_3", "encrypted_content": "gAAA"},
        {"role": "user", "content": "and?"},
    ]
    async with served(tmp_path) as (_, miner, api):
        asking = api.responses.create(model="m", input=items)
        _, assigned = await both(asking, answer(miner, "6"))
        told = [(turn.role, turn.reasoning) for turn in assigned.job.messages]
        thought = [("assistant", "hm"), ("tool", ""), ("assistant", "5, then")]
        assert told == [("user", ""), *thought, ("user", "")]


async def test_a_response_streams_its_reasoning(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(api.responses.create(model="m", input="hi", stream=True))
        await answer_thought(miner)
        events = [event async for event in await asking]
        kinds = [event.type.removeprefix("response.") for event in events]
        assert list(dict.fromkeys(kinds)) == [
            *("created", "in_progress", "output_item.added", "content_part.added"),
            *("reasoning_text.delta", "reasoning_text.done", "content_part.done"),
            *("output_item.done", "output_text.delta", "output_text.done", "completed"),
        ]
        by_kind: dict[str, list[Any]] = {}
        for event in events:
            by_kind.setdefault(event.type.removeprefix("response."), []).append(event)
        thought = by_kind["reasoning_text.delta"]
        assert "".join(event.delta for event in thought) == THOUGHT
        assert by_kind["reasoning_text.done"][0].text == THOUGHT
        texts = by_kind["output_text.delta"]
        assert "".join(event.delta for event in texts) == "12"
        assert ({one.output_index for one in thought}, {one.output_index for one in texts}) == (
            {0},
            {1},
        )
        done = events[-1].response
        assert [event.item for event in by_kind["output_item.done"]] == done.output
        assert [event.item.id for event in by_kind["output_item.added"]] == [
            item.id for item in done.output
        ]
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        # Read again from any place of it, the rest is the same.
        whole = THOUGHT.encode()
        for after in range(3, 3 + len(whole) + 8):
            again = await api.responses.retrieve(done.id, stream=True, starting_after=after)
            rest = [event async for event in again]
            assert rest[0].sequence_number > after
            deltas = [one.delta for one in rest if one.type == "response.reasoning_text.delta"]
            assert "".join(deltas) == whole[after - 3 :].decode(errors="ignore")
            assert rest[-1].response.output == done.output


async def test_a_response_that_is_cut_while_it_thinks_has_no_message(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        asking = asyncio.create_task(api.responses.create(model="m", input="hi", stream=True))
        await answer_thought(miner, result="", finish_reason="length")
        events = [event async for event in await asking]
        assert events[-1].type == "response.incomplete"
        [item] = events[-1].response.output
        assert (item.type, item.status) == ("reasoning", "incomplete")
        assert events[-2].item == item


async def test_thoughts_before_a_call_of_a_tool(tmp_path: Path) -> None:
    call = jobs_pb2.ToolCall(id="call_1", name="weather", arguments="{}")
    more: Any = {"result": "", "finish_reason": "tool_calls", "tool_calls": [call]}
    async with served(tmp_path) as (_, miner, api):
        tool: Any = {"type": "function", "name": "weather", "parameters": {}}
        asking = asyncio.create_task(
            api.responses.create(model="m", input="hi", stream=True, tools=[tool])
        )
        await answer_thought(miner, **more)
        events = [event async for event in await asking]
        output = events[-1].response.output
        assert [item.type for item in output] == ["reasoning", "function_call"]
        done = [event for event in events if event.type == "response.output_item.done"]
        assert [(event.output_index, event.item) for event in done] == list(enumerate(output))
        tool = {"type": "function", "function": {"name": "weather"}}
        asking = asyncio.create_task(
            api.chat.completions.create(model="m", messages=USER, stream=True, tools=[tool])
        )
        await answer_thought(miner, **more)
        chunks = [chunk async for chunk in await asking]
        told = [delta for chunk in chunks for delta in (chunk.choices[0].delta.to_dict(),)]
        assert "".join(delta.get("reasoning", "") for delta in told) == THOUGHT
        assert [delta["tool_calls"][0]["id"] for delta in told if "tool_calls" in delta] == [
            "call_1"
        ]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def answer_thought(miner: FakeMiner, **more: Any) -> None:
    """Takes the next job and answers it after some thought."""
    [assignment] = await miner.assignments()
    await think(miner, assignment.lease_id)
    await conclude(miner, assignment.lease_id, len(THOUGHTS), **more)

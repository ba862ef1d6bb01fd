from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.anthropic.events import message_events
from aitbc_server.anthropic.message import message_of, signature_of

OSLO = jobs_pb2.ToolCall(id="one", name="weather", arguments='{"city": "Oslo"}')
ROME = jobs_pb2.ToolCall(id="two", name="weather", arguments="{}")


def whole(*, tells_thinking: bool = True, **job: Any) -> dict[str, Any]:
    return message_of(jobs_pb2.Job(job_id="job-1", **job), "m", tells_thinking=tells_thinking)


async def streamed(
    deltas: Sequence[dict[str, Any]], *, tells_thinking: bool = True, **job: Any
) -> list[dict[str, Any]]:
    async def events() -> AsyncIterator[tuple[int, jobs_pb2.JobEvent]]:
        yield 0, jobs_pb2.JobEvent(type=jobs_pb2.JOB_EVENT_TYPE_STATUS)
        for delta in deltas:
            yield 0, jobs_pb2.JobEvent(type=jobs_pb2.JOB_EVENT_TYPE_DELTA, **delta)
        final = jobs_pb2.Job(job_id="job-1", **job)
        yield 0, jobs_pb2.JobEvent(type=jobs_pb2.JOB_EVENT_TYPE_FINAL, job=final)

    telling = message_events(events(), "job-1", "m", tells_thinking=tells_thinking)
    return [event async for event in telling]


def blocks(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts the blocks of a stream together, as a client does, and holds their order against it."""
    made: list[dict[str, Any]] = []
    is_open = False
    for event in events[2:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            is_open = True
            made.append({**event["content_block"], "json": ""})
        assert is_open
        assert event["index"] == len(made) - 1
        if event["type"] == "content_block_stop":
            is_open = False
        for name, value in event.get("delta", {}).items():
            if name != "type":
                key = "json" if name == "partial_json" else name
                made[-1][key] += value
    assert not is_open
    return [{key: value for key, value in one.items() if key != "input"} for one in made]


@pytest.mark.parametrize(
    ("job", "reason", "sequence"),
    [
        ({"finish_reason": "stop"}, "end_turn", None),
        ({"finish_reason": "length"}, "max_tokens", None),
        ({"finish_reason": "length", "tool_calls": [OSLO]}, "max_tokens", None),
        ({"finish_reason": "stop", "stop_string": "END"}, "stop_sequence", "END"),
        ({"finish_reason": "tool_calls", "tool_calls": [OSLO]}, "tool_use", None),
        # Of a call that had to be made.
        ({"finish_reason": "stop", "tool_calls": [OSLO]}, "tool_use", None),
        ({"finish_reason": "content_filter"}, "refusal", None),
        ({}, "end_turn", None),
    ],
)
async def test_a_message_says_why_it_ended(
    job: dict[str, Any], reason: str, sequence: str | None
) -> None:
    message = whole(**job)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    *_, delta, stop = await streamed([], **job)
    assert delta["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert stop == {"type": "message_stop"}


def test_tokens_that_a_cache_had_are_not_among_the_others() -> None:
    usage = jobs_pb2.Usage(prompt_tokens=10, cached_tokens=8, completion_tokens=2)
    assert whole(usage=usage)["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 8,
        "output_tokens": 2,
    }


async def test_an_empty_answer_has_a_block() -> None:
    assert whole(result="")["content"] == [{"type": "text", "text": ""}]
    assert blocks(await streamed([], result="")) == [{"type": "text", "text": "", "json": ""}]


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "7"])
def test_arguments_that_are_no_object_are_told_as_they_are(arguments: str) -> None:
    call = jobs_pb2.ToolCall(id="c", name="f", arguments=arguments)
    [block] = whole(tool_calls=[call])["content"]
    assert block["input"] == ({"arguments": arguments} if arguments else {})


async def test_thoughts_are_left_out_where_they_are_disabled() -> None:
    job: dict[str, Any] = {"reasoning": "hm", "result": "a"}
    assert whole(tells_thinking=False, **job)["content"] == [{"type": "text", "text": "a"}]
    events = await streamed([{"reasoning": "hm"}, {"text": "a"}], tells_thinking=False)
    assert [one["type"] for one in blocks(events)] == ["text"]


async def test_what_is_said_during_a_call_waits_for_its_end() -> None:
    deltas: list[dict[str, Any]] = [
        {"text": "Look: "},
        {"tool_calls": [jobs_pb2.ToolCallPart(index=0, id="one", name="weather")]},
        {"text": "and "},
        {"reasoning": "hm"},
        {"tool_calls": [jobs_pb2.ToolCallPart(index=0, arguments='{"city": "Oslo"}')]},
        {"tool_calls": [jobs_pb2.ToolCallPart(index=1, id="two", name="weather")]},
    ]
    events = await streamed(deltas, tool_calls=[OSLO, ROME])
    told = blocks(events)
    assert [one["type"] for one in told] == ["text", "tool_use", "text", "thinking", "tool_use"]
    assert [one["json"] for one in told if one["type"] == "tool_use"] == [
        OSLO.arguments,
        ROME.arguments,
    ]
    assert told[3]["signature"] == signature_of("hm")


async def test_calls_that_only_the_end_tells_are_told() -> None:
    told = blocks(await streamed([{"text": "a"}], tool_calls=[OSLO, ROME]))
    assert [(one.get("id"), one["json"]) for one in told] == [
        (None, ""),
        ("one", OSLO.arguments),
        ("two", ROME.arguments),
    ]

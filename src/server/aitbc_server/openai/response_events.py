"""The events of a response's stream, whose numbers are the same whenever it is read.

A delta is numbered by where its text ends, in bytes, so that a reader who comes back with the
number of the last event that it has gets what follows, whichever way the text was cut before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.errors import JobFailed
from aitbc_server.openai.jobs import Client, Jobs
from aitbc_server.openai.response_object import (
    call_item,
    message_item,
    output_items,
    response_object,
    text_part,
)

# Numbers of the events before the text; that of the byte after it is the next.
_CREATED, _IN_PROGRESS, _ITEM_ADDED, _PART_ADDED, _TEXT = range(5)


async def response_events(
    jobs: Jobs, job_id: str, client: Client, shown: dict[str, Any], after: int
) -> AsyncGenerator[dict[str, Any], None]:
    """Yields the events numbered above `after`. Raises as `Jobs.events`."""
    async for event in _all_events(jobs, job_id, client, shown):
        number = event["sequence_number"]
        if number <= after:
            continue
        if event["type"] == "response.output_text.delta":
            text = event["delta"].encode()
            begin = number - len(text)
            if begin < after:
                # Its reader has a part of it, cut at a byte where a character may go on.
                event["delta"] = text[max(0, after - begin) :].decode(errors="ignore")
        yield event


async def _all_events(
    jobs: Jobs, job_id: str, client: Client, shown: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    job = await jobs.get(job_id, client)
    begun = jobs_pb2.Job()
    begun.CopyFrom(job)
    begun.status = jobs_pb2.JOB_STATUS_RUNNING
    yield _of_response("created", _CREATED, begun, shown)
    yield _of_response("in_progress", _IN_PROGRESS, begun, shown)
    text = ""
    try:
        async for _, event in jobs.events([job_id], client):
            if event.text:
                if not text:
                    for opening in _opening(job_id):
                        yield opening
                text += event.text
                yield {
                    "type": "response.output_text.delta",
                    "sequence_number": _TEXT - 1 + event.offset,
                    **_place(job_id),
                    "delta": event.text,
                    "logprobs": [],
                }
    except JobFailed:
        job = await jobs.get(job_id, client)
        kind = "failed" if job.status == jobs_pb2.JOB_STATUS_FAILED else "incomplete"
        yield _of_response(kind, _TEXT + len(text.encode()), job, shown)
        return
    job = await jobs.get(job_id, client)
    for closing in _closing(job, text, shown):
        yield closing


def _opening(job_id: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "response.output_item.added",
            "sequence_number": _ITEM_ADDED,
            "output_index": 0,
            "item": message_item(job_id, "in_progress", []),
        },
        {
            "type": "response.content_part.added",
            "sequence_number": _PART_ADDED,
            **_place(job_id),
            "part": text_part(""),
        },
    ]


def _closing(job: jobs_pb2.Job, text: str, shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the events after the text, which are known only when the job is completed."""
    events: list[dict[str, Any]] = []
    items = output_items(job)
    if items and items[0]["type"] == "message":
        if not text:
            events += _opening(job.job_id)
        events += [
            {
                "type": "response.output_text.done",
                **_place(job.job_id),
                "text": text,
                "logprobs": [],
            },
            {"type": "response.content_part.done", **_place(job.job_id), "part": text_part(text)},
            {"type": "response.output_item.done", "output_index": 0, "item": items[0]},
        ]
    begin = len(items) - len(job.tool_calls)
    for place, call in enumerate(job.tool_calls):
        item = call_item(job.job_id, place, call)
        where = {"item_id": item["id"], "output_index": begin + place}
        told = {"arguments": call.arguments}
        events += [
            {
                "type": "response.output_item.added",
                "output_index": begin + place,
                "item": call_item(job.job_id, place, call, "in_progress"),
            },
            {
                "type": "response.function_call_arguments.delta",
                **where,
                "delta": call.arguments,
            },
            {
                "type": "response.function_call_arguments.done",
                **where,
                "name": call.name,
                **told,
            },
            {"type": "response.output_item.done", "output_index": begin + place, "item": item},
        ]
    is_cut = job.finish_reason == "length"
    events.append(_of_response("incomplete" if is_cut else "completed", 0, job, shown))
    number = _TEXT + len(text.encode())
    for event in events:
        # Those that open an empty text have theirs.
        if event.get("sequence_number") not in (_ITEM_ADDED, _PART_ADDED):
            event["sequence_number"] = number
            number += 1
    return events


def _of_response(
    kind: str, number: int, job: jobs_pb2.Job, shown: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": f"response.{kind}",
        "sequence_number": number,
        "response": response_object(job, shown),
    }


def _place(job_id: str) -> dict[str, Any]:
    item_id = message_item(job_id, "", [])["id"]
    return {"item_id": item_id, "output_index": 0, "content_index": 0}

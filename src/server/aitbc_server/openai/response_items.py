"""The items of responses: what a job was asked, and what it answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.chat_stream import logprobs_of
from aitbc_server.openai.custom_tools import input_of
from aitbc_server.openai.response_ids import item_id
from aitbc_server.openai.response_notes import Notes

Item = dict[str, Any]
# What may be told of an item beside what is always told.
LOGPROBS, ENCRYPTED = "message.output_text.logprobs", "reasoning.encrypted_content"
_CUT = {"length", "content_filter"}
# What stands before a reasoning where clients look for one that is encrypted.
_SEAL = "aitbc1:"


def is_cut(job: jobs_pb2.Job) -> bool:
    """Says whether a completed job's answer ended before its end."""
    return job.finish_reason in _CUT


def sealed(reasoning: str) -> str:
    """Returns a reasoning in the form in which clients send back what they cannot read.

    It is not encrypted: the reasoning is told in plain words beside it.
    """
    return _SEAL + base64.b64encode(reasoning.encode()).decode()


def unsealed(content: str) -> str | None:
    """Returns the reasoning that `sealed` was given; None of what another server sealed."""
    if not content.startswith(_SEAL):
        return None
    try:
        return base64.b64decode(content.removeprefix(_SEAL), validate=True).decode()
    except ValueError:
        return None


def output_items(job: jobs_pb2.Job, notes: Notes, includes: frozenset[str]) -> list[Item]:
    """Returns what a completed job said: its reasoning, its text, and the calls it asks for."""
    if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
        return []
    items = []
    # What was cut is what came last.
    status = "incomplete" if is_cut(job) else "completed"
    if job.reasoning and not notes.hides_reasoning:
        is_last = not (job.result or job.tool_calls)
        told = reasoning_item(job.job_id, status if is_last else "completed", job.reasoning)
        items.append(with_sealed(told, job.reasoning) if ENCRYPTED in includes else told)
    if job.result or not (job.tool_calls or job.reasoning):
        told_logprobs = logprobs(text_logprobs(job)) if LOGPROBS in includes else []
        content = [text_part(job.result, told_logprobs)]
        items.append(message_item(job.job_id, status, content))
    for place, call in enumerate(job.tool_calls):
        items.append(call_item(job.job_id, (place,), call, notes))
    if job.tool_calls:
        items[-1]["status"] = status
    return items


def input_items(job: jobs_pb2.Job, notes: Notes) -> Iterator[Item]:
    """Yields what a job was asked, but for its instructions."""
    if job.HasField("prompt"):
        content = [{"type": "input_text", "text": job.prompt}]
        yield _message(job.job_id, 0, "user", content)
    # Calls of custom tools: what answers them is another kind of item.
    custom: set[str] = set()
    for place, turn in enumerate(job.messages):
        if place == 0 and notes.has_instructions:
            continue
        if turn.role == "assistant":
            yield from _said(job.job_id, place, turn, notes)
            custom |= {call.id for call in turn.tool_calls if call.name in notes.custom}
        elif turn.role == "tool":
            yield _output(job.job_id, place, turn, is_custom=turn.tool_call_id in custom)
        else:
            yield _message(job.job_id, place, turn.role, _content(turn))


def _said(job_id: str, place: int, turn: jobs_pb2.ChatMessage, notes: Notes) -> Iterator[Item]:
    if turn.reasoning:
        yield reasoning_item(job_id, "completed", turn.reasoning, f"i{place}")
    if turn.content or not turn.tool_calls:
        yield message_item(job_id, "completed", [text_part(turn.content, [])], f"i{place}")
    for number, call in enumerate(turn.tool_calls):
        yield call_item(job_id, (f"i{place}", number), call, notes)


def _message(job_id: str, place: int, role: str, content: list[Item]) -> Item:
    return {
        "id": item_id("msg", job_id, f"i{place}"),
        "type": "message",
        "status": "completed",
        "role": role,
        "content": content,
    }


def _output(job_id: str, place: int, turn: jobs_pb2.ChatMessage, *, is_custom: bool) -> Item:
    return {
        "id": item_id("ctco" if is_custom else "fco", job_id, f"i{place}"),
        "type": "custom_tool_call_output" if is_custom else "function_call_output",
        "status": "completed",
        "call_id": turn.tool_call_id,
        "output": _content(turn) if turn.parts else turn.content,
    }


def _content(turn: jobs_pb2.ChatMessage) -> list[Item]:
    if not turn.parts:
        return [{"type": "input_text", "text": turn.content}]
    return [_part(part) for part in turn.parts]


def _part(part: jobs_pb2.ContentPart) -> Item:
    if part.type == "text":
        return {"type": "input_text", "text": part.text}
    if part.type == "image_url":
        return {"type": "input_image", "image_url": part.url, "detail": part.detail or "auto"}
    if part.type == "input_audio":
        return {"type": part.type, part.type: {"data": part.data, "format": part.format}}
    return {"type": part.type, part.type: {"url": part.url}}


def message_item(job_id: str, status: str, content: list[Item], *place: str) -> Item:
    """Returns the item of a text that the model said."""
    return {
        "id": item_id("msg", job_id, *place),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def reasoning_item(job_id: str, status: str, reasoning: str | None, *place: str) -> Item:
    """Returns the item of a reasoning."""
    return {
        "id": item_id("rs", job_id, *place),
        "type": "reasoning",
        "status": status,
        "summary": [],
        "content": [] if reasoning is None else [reasoning_part(reasoning)],
    }


def with_sealed(item: Item, reasoning: str) -> Item:
    """Returns the item of a reasoning with the form of it that clients send back unread."""
    return {**item, "encrypted_content": sealed(reasoning)}


def reasoning_part(text: str) -> Item:
    """Returns the content of a reasoning."""
    return {"type": "reasoning_text", "text": text}


def text_part(text: str, told_logprobs: list[Item]) -> Item:
    """Returns the content of a text."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": told_logprobs,
    }


def call_item(
    job_id: str, place: tuple[int | str, ...], call: jobs_pb2.ToolCall, notes: Notes
) -> Item:
    """Returns the item of a call."""
    if call.name in notes.custom:
        return {
            "id": item_id("ctc", job_id, *place),
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "input": input_of(call.arguments),
        }
    namespace, name = notes.namespaces.get(call.name, (None, call.name))
    return {
        "id": item_id("fc", job_id, *place),
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": name,
        "arguments": call.arguments,
        **({"namespace": namespace} if namespace is not None else {}),
    }


def logprobs(tokens: Sequence[jobs_pb2.TokenLogprob]) -> list[Item]:
    """Returns how likely tokens of a text were."""
    told: list[Item] = logprobs_of(tokens)["content"]
    return told


def text_logprobs(job: jobs_pb2.Job) -> Sequence[jobs_pb2.TokenLogprob]:
    """Returns those of the text alone: reasoning comes before it, and calls come after it."""
    tokens = job.logprobs
    if not (job.reasoning or job.tool_calls):
        return tokens
    sizes = [len(one.bytes or one.token.encode()) for one in tokens]
    size, begin, end = len(job.result.encode()), 0, len(tokens)
    rest = sum(sizes)
    if job.reasoning:
        while begin < end and rest > size:
            rest -= sizes[begin]
            begin += 1
        return tokens[begin:]
    while end and rest > size:
        end -= 1
        rest -= sizes[end]
    return tokens[:end]

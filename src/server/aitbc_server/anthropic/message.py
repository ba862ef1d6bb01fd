"""A message as an answer: its blocks, why it ended, and what it took."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from aitbc.v1 import jobs_pb2

_REASONS = {"length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}


def message_of(job: jobs_pb2.Job, model: str, *, tells_thinking: bool) -> dict[str, Any]:
    """Returns the message that a completed job is."""
    content: list[dict[str, Any]] = []
    if job.reasoning and tells_thinking:
        content.append(thinking_block(job.reasoning, signature_of(job.reasoning)))
    # Clients look at the first block, whatever was said.
    if job.result or not (content or job.tool_calls):
        content.append(text_block(job.result))
    content += [call_block(one.id, one.name, _input(one.arguments)) for one in job.tool_calls]
    head = message_head(job.job_id, model)
    return {**head, "content": content, **ending_of(job), "usage": usage_of(job.usage)}


def message_head(job_id: str, model: str) -> dict[str, Any]:
    """Returns what a message begins with."""
    return {
        "id": f"msg_{job_id.removeprefix('job-')}",
        "type": "message",
        "role": "assistant",
        "model": model,
    }


def ending_of(job: jobs_pb2.Job) -> dict[str, Any]:
    """Returns why a message ended."""
    reason, stop = _REASONS.get(job.finish_reason), None
    if reason is None and job.tool_calls:
        # Of a call that had to be made.
        reason = "tool_use"
    if reason is None and job.stop_string:
        reason, stop = "stop_sequence", job.stop_string
    return {"stop_reason": reason or "end_turn", "stop_sequence": stop}


def usage_of(usage: jobs_pb2.Usage) -> dict[str, Any]:
    """Returns what a message took. Tokens that a cache had are not among the others."""
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    told: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }
    if usage.HasField("reasoning_tokens"):
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return told


def text_block(text: str) -> dict[str, Any]:
    """Returns a text."""
    return {"type": "text", "text": text}


def thinking_block(thinking: str, signature: str) -> dict[str, Any]:
    """Returns what the model thought."""
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def call_block(call_id: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns a call of a tool."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def signature_of(thinking: str) -> str:
    """Returns what clients keep with a thought and send back with it; nobody asks for it here."""
    return hashlib.sha256(thinking.encode()).hexdigest()


def _input(arguments: str) -> dict[str, Any]:
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    # What the model wrote instead of an object: without it, the tool would run as if not told.
    return given if isinstance(given, dict) else {"arguments": arguments}

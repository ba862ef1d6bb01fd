"""A job as the object of a response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.job_errors import CLIENTS_CODES
from aitbc_server.openai.errors import JobFailed
from aitbc_server.openai.parameters import Policy, section
from aitbc_server.openai.response_ids import response_id_of
from aitbc_server.openai.response_items import output_items
from aitbc_server.openai.response_notes import Notes, notes_of
from aitbc_server.openai.wording import words_of

# Why an answer is incomplete, by why its generation ended.
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
_STATUSES = {
    jobs_pb2.JOB_STATUS_PENDING: "queued",
    jobs_pb2.JOB_STATUS_RUNNING: "in_progress",
    jobs_pb2.JOB_STATUS_COMPLETED: "completed",
    jobs_pb2.JOB_STATUS_FAILED: "failed",
    jobs_pb2.JOB_STATUS_CANCELLED: "cancelled",
}
# What requests call what a job may be refused for.
_KNOWN = frozenset(
    row.name for row in section("responses").values() if row.policy is Policy.HONOURED
)
_ERRORS = {"ENGINE_BUSY": "rate_limit_exceeded"}
_MODES = ("auto", "none", "required")
_FORMATS = {
    jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT: "json_object",
    jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA: "json_schema",
}
# What no job says of a response, as it is unless its request said otherwise.
_USUAL = {
    "background": False,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "top_logprobs": 0,
    "truncation": "disabled",
    "user": None,
}


def response_object(
    job: jobs_pb2.Job, includes: frozenset[str] = frozenset(), notes: Notes | None = None
) -> dict[str, Any]:
    """Returns the object. `notes`: those of the job, for who has them at hand."""
    if notes is None:
        notes = notes_of(job)
    status = _STATUSES[job.status]
    tools = range(len(job.tools)) if notes.tools is None else notes.tools
    cut = _CUT.get(job.finish_reason) if status == "completed" else None
    params = job.params
    is_complete = status == "completed" and cut is None
    return {
        "id": response_id_of(job.job_id),
        "object": "response",
        "created_at": job.created_at.seconds,
        "completed_at": job.completed_at.seconds if is_complete else None,
        "status": "incomplete" if cut else status,
        "error": _error(job) if status == "failed" else None,
        "incomplete_details": {"reason": cut} if cut else None,
        "instructions": _instructions(job, notes),
        "max_output_tokens": params.max_tokens if params.HasField("max_tokens") else None,
        "metadata": dict(job.metadata),
        "model": job.model,
        "output": output_items(job, notes, includes),
        "parallel_tool_calls": job.parallel_tool_calls or not job.HasField("parallel_tool_calls"),
        "temperature": params.temperature if params.HasField("temperature") else None,
        "text": _text(job, notes),
        "tool_choice": _tool_choice(job),
        "tools": list(_tools(job, notes, tools)),
        "top_p": params.top_p if params.HasField("top_p") else None,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "store": job.store or not job.HasField("store"),
        "usage": _usage(job) if status == "completed" else None,
        **_USUAL,
        **notes.shown,
    }


def tool_object(tool: jobs_pb2.Tool) -> dict[str, Any]:
    """Returns a function as a response tells it."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": orjson.loads(tool.parameters or "{}"),
        "strict": tool.strict,
    }


def _instructions(job: jobs_pb2.Job, notes: Notes) -> str | None:
    return job.messages[0].content if notes.has_instructions and job.messages else None


def _error(job: jobs_pb2.Job) -> dict[str, Any]:
    code = job.error.code
    return {
        "code": "invalid_prompt" if code in CLIENTS_CODES else _ERRORS.get(code, "server_error"),
        "message": words_of(JobFailed(job), _KNOWN),
    }


def _text(job: jobs_pb2.Job, notes: Notes) -> dict[str, Any]:
    form: dict[str, Any] = {"type": _FORMATS.get(job.response_format.type, "text")}
    if form["type"] == "json_schema":
        schema = orjson.loads(job.response_format.json_schema)
        form |= {"name": "answer", "schema": schema, "strict": True, **notes.form}
    return {"format": form, **({"verbosity": notes.verbosity} if notes.verbosity else {})}


def _tools(job: jobs_pb2.Job, notes: Notes, noted: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yields the tools as they were asked for. Notes are what a client says: they may be wrong."""
    for one in noted:
        if isinstance(one, int) and 0 <= one < len(job.tools):
            told = tool_object(job.tools[one])
            told["name"] = notes.namespaces.get(told["name"], ("", told["name"]))[1]
            yield told
        elif isinstance(one, dict):
            inner = one.get("tools")
            more = {"tools": list(_tools(job, notes, inner))} if isinstance(inner, list) else {}
            yield {**one, **more}


def _tool_choice(job: jobs_pb2.Job) -> str | dict[str, Any]:
    choice = job.tool_choice or "auto"
    return choice if choice in _MODES else {"type": "function", "name": choice}


def _usage(job: jobs_pb2.Job) -> dict[str, Any]:
    usage = job.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

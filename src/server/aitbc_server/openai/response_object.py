"""A job as the object of a response."""

from __future__ import annotations

from typing import Any

import orjson

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.ids import JOB_PREFIX
from aitbc_server.openai.errors import OpenAIError

_PREFIX = "resp_"
_STATUSES = {
    jobs_pb2.JOB_STATUS_PENDING: "queued",
    jobs_pb2.JOB_STATUS_RUNNING: "in_progress",
    jobs_pb2.JOB_STATUS_COMPLETED: "completed",
    jobs_pb2.JOB_STATUS_FAILED: "failed",
    jobs_pb2.JOB_STATUS_CANCELLED: "cancelled",
}
_MODES = ("auto", "none", "required")
_FORMATS = {
    jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT: "json_object",
    jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA: "json_schema",
}


def response_id_of(job_id: str) -> str:
    """Returns the name of a job's response."""
    return _PREFIX + job_id.removeprefix(JOB_PREFIX)


def job_id_of(response_id: str) -> str:
    """Returns the job of a response. Raises OpenAIError."""
    if not response_id.startswith(_PREFIX):
        message = f"Response with id '{response_id[:100]}' not found."
        raise OpenAIError(404, message, code="response_not_found", param="response_id")
    return JOB_PREFIX + response_id.removeprefix(_PREFIX)


def response_object(job: jobs_pb2.Job, shown: dict[str, Any]) -> dict[str, Any]:
    """Returns the object. `shown`: what it repeats of its request and the job does not keep."""
    status = _STATUSES[job.status]
    is_cut = status == "completed" and job.finish_reason == "length"
    params = job.params
    return {
        "id": response_id_of(job.job_id),
        "object": "response",
        "created_at": job.created_at.seconds,
        "status": "incomplete" if is_cut else status,
        "error": _error(job) if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": None,
        "max_output_tokens": params.max_tokens if params.HasField("max_tokens") else None,
        "metadata": dict(job.metadata),
        "model": job.model,
        "output": output_items(job),
        "parallel_tool_calls": job.parallel_tool_calls or not job.HasField("parallel_tool_calls"),
        "previous_response_id": None,
        "temperature": params.temperature if params.HasField("temperature") else None,
        "text": {"format": _format(job)},
        "tool_choice": _tool_choice(job),
        "tools": [_tool(tool) for tool in job.tools],
        "top_p": params.top_p if params.HasField("top_p") else None,
        "truncation": "disabled",
        "usage": _usage(job) if status == "completed" else None,
        **shown,
    }


def output_items(job: jobs_pb2.Job) -> list[dict[str, Any]]:
    """Returns what a completed job said: its text, when there is any, and the calls it asks for."""
    if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
        return []
    items = []
    if job.result or not job.tool_calls:
        status = "incomplete" if job.finish_reason == "length" else "completed"
        items.append(message_item(job.job_id, status, [text_part(job.result)]))
    return items + [call_item(job.job_id, place, call) for place, call in enumerate(job.tool_calls)]


def message_item(job_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the item of a text."""
    return {
        "id": f"msg_{job_id.removeprefix(JOB_PREFIX)}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def text_part(text: str) -> dict[str, Any]:
    """Returns the content of a text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(
    job_id: str, place: int, call: jobs_pb2.ToolCall, status: str = "completed"
) -> dict[str, Any]:
    """Returns the item of a call."""
    return {
        "id": f"fc_{job_id.removeprefix(JOB_PREFIX)}_{place}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments if status == "completed" else "",
    }


def _error(job: jobs_pb2.Job) -> dict[str, Any]:
    is_refused = job.error.code == "BAD_REQUEST"
    return {
        "code": "invalid_prompt" if is_refused else "server_error",
        "message": job.error.message,
    }


def _format(job: jobs_pb2.Job) -> dict[str, Any]:
    kind = _FORMATS.get(job.response_format.type, "text")
    if kind != "json_schema":
        return {"type": kind}
    schema = orjson.loads(job.response_format.json_schema)
    return {"type": kind, "name": "answer", "schema": schema, "strict": True}


def _tool_choice(job: jobs_pb2.Job) -> str | dict[str, Any]:
    choice = job.tool_choice or "auto"
    return choice if choice in _MODES else {"type": "function", "name": choice}


def _tool(tool: jobs_pb2.Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": orjson.loads(tool.parameters or "{}"),
        "strict": tool.strict,
    }


def _usage(job: jobs_pb2.Job) -> dict[str, Any]:
    usage = job.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

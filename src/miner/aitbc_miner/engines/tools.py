"""Calls of tools: the JSON that an answer is held to when it must call one, and what that says.

Which tool a model wants that is free to call none is written in a language of its own; reading it
is the engine's part.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from aitbc_miner.engines.base import Job, ToolCall
from aitbc_miner.errors import EngineFailed

AUTO, NONE, REQUIRED = "auto", "none", "required"


def is_calling(job: Job) -> bool:
    """Says whether the answer may call a tool."""
    return bool(job.tools) and job.tool_choice != NONE


def forced_schema(job: Job) -> dict[str, Any] | None:
    """Returns the JSON Schema of an answer that must call a tool; None for one that need not."""
    if not is_calling(job) or job.tool_choice == AUTO:
        return None
    if job.tool_choice != REQUIRED:
        return next(_arguments(t.parameters) for t in job.tools if t.name == job.tool_choice)
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "enum": [tool.name]},
                "parameters": _arguments(tool.parameters),
            },
            "required": ["name", "parameters"],
        }
        for tool in job.tools
    ]
    return {"type": "array", "minItems": 1, "items": {"anyOf": calls}}


def forced_calls(job: Job, text: str) -> tuple[ToolCall, ...]:
    """Returns the calls of an answer that was held to `forced_schema`.

    Raises EngineFailed for one that was cut.
    """
    if job.tool_choice != REQUIRED:
        return (called(job.tool_choice, text),)
    try:
        calls = json.loads(text)
        return tuple(called(call["name"], json.dumps(call["parameters"])) for call in calls)
    except (ValueError, KeyError, TypeError) as error:
        raise EngineFailed("the answer ended within a call of a tool") from error


def called(name: str, arguments: str) -> ToolCall:
    """Returns a call with a new id."""
    return ToolCall(f"call_{uuid4().hex}", name, arguments)


def _arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    return parameters or {"type": "object", "properties": {}}

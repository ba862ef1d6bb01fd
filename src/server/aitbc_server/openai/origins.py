"""Where in a request the fields of its jobs came from, for errors that speak of jobs.

The path of a job's field is followed through the request as it was read. Each step goes to where
the request has the field, under whichever name its API has for it, and stays where the request has
none. So an error may name an object where a member of it is wrong, but never what its caller did
not send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel

from aitbc.v1 import jobs_pb2

# The steps of a path: names of members, and places in lists.
Path = tuple[str | int, ...]
# Where what begins with a path of a job came from, unless it has the same place in the request.
# There may be several: a text may be made of more than one.
Places = Mapping[Path, Sequence[Path]]

_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_NUL = "\0"
_JOB: Descriptor = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_PROMPTS = ("messages", "prompt", "input", "tokens")
# Names that fields of jobs have in requests, the closest first. A field that is not here has the
# same name everywhere.
_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "SubmitJobRequest": {
        **dict.fromkeys(("prompt", "messages", "prompt_token_ids", "inputs"), _PROMPTS),
        "api_notes": ("tools",),
        "conversation_id": ("prompt_cache_key", "session_id", "metadata.user_id"),
        "parallel_tool_calls": ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
        "response_format": (
            "response_format",
            "text.format",
            "output_config.format",
            "output_format",
        ),
        "task": ("model",),
        "user": ("user", "safety_identifier", "metadata.user_id"),
    },
    "GenerationParams": {
        "extra_args": ("vllm_xargs",),
        "logprobs": ("top_logprobs", "logprobs"),
        "max_tokens": ("max_completion_tokens", "max_tokens", "max_output_tokens"),
        "prompt_logprobs": ("prompt_logprobs", "logprobs"),
        "return_token_ids": (
            "return_token_ids",
            "return_token_strs",
            "return_prompt_text",
            "return_tokens_as_token_ids",
        ),
        "stop": ("stop", "stop_sequences"),
        "thinking_token_budget": ("thinking_token_budget", "thinking.budget_tokens"),
        "is_thinking_token_budget_optional": ("thinking.budget_tokens",),
    },
    "PromptOptions": {
        "chat_template_kwargs": ("chat_template_kwargs", "instruction"),
        "max_tokens_per_document": ("max_tokens_per_doc",),
        "reasoning_effort": (
            "reasoning_effort",
            "reasoning.effort",
            "output_config.effort",
        ),
        "truncate_prompt_tokens": ("truncate_prompt_tokens", "truncation"),
    },
    "ChatMessage": {
        "content": ("content", "output", "refusal"),
        "parts": ("content", "output"),
        "reasoning": ("reasoning", "reasoning_content", "content", "summary"),
        "tool_call_id": ("tool_call_id", "call_id", "tool_use_id", "name"),
        "tool_calls": ("tool_calls", "function_call"),
    },
    "ContentPart": {
        "data": ("input_audio.data",),
        "detail": ("image_url.detail", "detail"),
        "format": ("input_audio.format",),
        "text": ("text", "refusal", "title", "context", "source", "content"),
        "url": (
            *(f"{kind}.url" for kind in ("image_url", "video_url", "audio_url", "source")),
            "image_url",
            "video_url",
            "audio_url",
            "source.data",
            "source.media_type",
        ),
    },
    "Tool": {
        "description": ("description", "function.description", "custom.description"),
        "name": ("name", "function.name", "custom.name"),
        "parameters": ("parameters", "function.parameters", "input_schema"),
        "strict": ("strict", "function.strict"),
    },
    "ToolCall": {
        "arguments": ("arguments", "function.arguments", "custom.input", "input"),
        "id": ("id", "call_id"),
        "name": ("name", "function.name", "custom.name", "namespace"),
    },
    "ResponseFormat": {
        "choices": ("choice",),
        "json_schema": ("json_schema.schema", "schema", "json"),
    },
}


class _Spot(NamedTuple):
    """A place in a request."""

    path: Path
    value: Any


def steps_of(path: str) -> Path:
    """Returns the steps of a path such as `messages[0].content`."""
    steps = ((key, name) for key, name in _STEP.findall(path))
    return tuple(int(key) if key.isdecimal() else key or name for key, name in steps)


def path_text(path: Path) -> str:
    """Returns a path as it is told."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def origin_of(request: BaseModel, path: Path, places: Places, *, has_nul: bool = False) -> Path:
    """Returns where a field of a job came from; nothing of one that the request does not have.

    `has_nul`: whether what is wrong is a NUL, so that of several texts one is to blame.
    """
    spots = [_Spot((), request)]
    for count, step in enumerate(path, start=1):
        jump = places.get(path[:count])
        if jump is not None:
            spots = [_followed(_Spot((), request), one) for one in jump]
            continue
        names = names_of(message_of(path[: count - 1]), step)
        spots = [found for spot in spots for found in _found(spot, names)]
    if has_nul:
        spots = [found for spot in spots for found in _with_nul(spot)] or spots
    return spots[0].path


def message_of(path: Path) -> Descriptor | None:
    """Returns the message of a job that is at a path, if it is one."""
    message: Descriptor | None = _JOB
    for step in path:
        if isinstance(step, str):
            field = message.fields_by_name.get(step) if message else None
            message = field.message_type if field else None
    return message


def names_of(message: Descriptor | None, step: str | int) -> Sequence[str | int]:
    """Returns the names that a field of a job's message has in requests."""
    if message is None or isinstance(step, int):
        return (step,)
    return _NAMES.get(message.name, {}).get(step, (step,))


def _found(spot: _Spot, names: Sequence[str | int]) -> list[_Spot]:
    """Returns where an object has a member, first where it is not empty; itself, without it."""
    found = []
    for name in names:
        steps = (name,) if isinstance(name, int) else tuple(name.split("."))
        there = _followed(spot, steps)
        if len(there.path) == len(spot.path) + len(steps):
            found.append(there)
    closest = [one for one in found if not any(_is_within(other, one) for other in found)]
    return sorted(closest, key=lambda one: not one.value) or [spot]


def _is_within(spot: _Spot, other: _Spot) -> bool:
    return spot.path != other.path and spot.path[: len(other.path)] == other.path


def _followed(spot: _Spot, steps: Path) -> _Spot:
    """Returns what is at the end of the steps, as far as the request has it."""
    for step in steps:
        # Keys of maps are texts, whatever they look like.
        name = step if isinstance(spot.value, list | tuple) else str(step)
        held = dict(_members(spot.value))
        if name not in held:
            break
        spot = _Spot((*spot.path, name), held[name])
    return spot


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Yields what a request has in an object or a list."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name in value.model_fields_set:
                yield field.alias or name, getattr(value, name)
    elif isinstance(value, Mapping):
        yield from ((str(key), held) for key, held in value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _with_nul(spot: _Spot) -> Iterator[_Spot]:
    """Yields the texts with a NUL that are at a place. JSON has none: it writes them otherwise."""
    if isinstance(spot.value, str):
        if _NUL in spot.value:
            yield spot
    elif isinstance(spot.value, BaseModel) and not spot.value.model_fields_set:
        # It was a text.
        if any(_NUL in held for held in dict(spot.value).values() if isinstance(held, str)):
            yield spot
    elif not isinstance(spot.value, Mapping):
        for name, held in _members(spot.value):
            yield from _with_nul(_Spot((*spot.path, name), held))

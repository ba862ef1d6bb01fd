"""Checks of what a job asks of its generation that no rule beside a single field can say."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument

_MODES = frozenset({"", "auto", "none", "required"})
METADATA_ITEMS = 16
METADATA_KEY = 64
METADATA_VALUE = 512
# Characters by which prompts are told to begin alike: below, an engine's cache saves nothing.
_PREFIX = 1024


def check_generation(request: jobs_pb2.SubmitJobRequest) -> None:
    """Raises InvalidArgument for the first field that does not fit the others."""
    if request.raw_prompt and request.messages:
        raise InvalidArgument("raw_prompt", "goes with prompt, not with messages")
    if request.HasField("response_format"):
        _check_format(request.response_format)
    if request.tools or request.tool_choice:
        _check_tools(request)
    if request.metadata:
        _check_metadata(request)


def check_size(request: jobs_pb2.SubmitJobRequest, most: int) -> None:
    """Raises InvalidArgument when the prompt, or the messages together, are larger than that."""
    field = "messages" if request.messages else "prompt"
    texts = [request.prompt, *(message.content for message in request.messages)]
    if sum(len(text.encode()) for text in texts) > most:
        raise InvalidArgument(field, f"must be at most {most} bytes for this caller")


def affinity_of(request: jobs_pb2.SubmitJobRequest, caller: Caller) -> tuple[bytes, ...]:
    """Returns keys that a job shares with those that begin alike, the closest first."""
    keys = []
    if request.conversation_id:
        # Names of conversations are their owners' own.
        keys.append(_key(f"{caller.owner} {request.conversation_id}"))
    text = request.prompt
    for message in request.messages:
        if len(text) >= _PREFIX:
            break
        text += f"\0{message.role}\0{message.content}"
    if len(text) >= _PREFIX:
        keys.append(_key(text[:_PREFIX]))
    return tuple(keys)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _check_format(form: jobs_pb2.ResponseFormat) -> None:
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
        _check_object("response_format.json_schema", form.json_schema)
    elif form.json_schema:
        raise InvalidArgument("response_format.json_schema", "goes with the type json_schema")


def _check_tools(request: jobs_pb2.SubmitJobRequest) -> None:
    if request.raw_prompt:
        raise InvalidArgument("tools", "go with messages or a prompt that is not raw")
    names = set()
    for index, tool in enumerate(request.tools):
        if tool.name in names:
            raise InvalidArgument(f"tools[{index}].name", "is the name of a tool before it")
        names.add(tool.name)
        if tool.parameters:
            schema = _check_object(f"tools[{index}].parameters", tool.parameters)
            if schema.get("type", "object") != "object":
                raise InvalidArgument(f"tools[{index}].parameters", "must have the type object")
    choice = request.tool_choice
    if choice not in _MODES and choice not in names:
        known = f"one of the tools: {', '.join(sorted(names))}" if names else "a tool"
        raise InvalidArgument("tool_choice", f"must be auto, none, required or {known}")
    if choice == "required" and not names:
        raise InvalidArgument("tool_choice", "requires a tool, and there are none")
    is_free = request.response_format.type in (
        jobs_pb2.RESPONSE_FORMAT_TYPE_UNSPECIFIED,
        jobs_pb2.RESPONSE_FORMAT_TYPE_TEXT,
    )
    if names and choice != "none" and not is_free:
        raise InvalidArgument("response_format", "cannot be held to together with tools")


def _check_object(field: str, text: str) -> dict[str, Any]:
    """Returns the object that a text is."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InvalidArgument(field, "must be a JSON object, as a text")
    return value


def _check_metadata(request: jobs_pb2.SubmitJobRequest) -> None:
    if len(request.metadata) > METADATA_ITEMS:
        raise InvalidArgument("metadata", f"must have at most {METADATA_ITEMS} items")
    for key, value in request.metadata.items():
        if not 0 < len(key) <= METADATA_KEY:
            raise InvalidArgument("metadata", f"keys must have 1 to {METADATA_KEY} characters")
        if len(value) > METADATA_VALUE:
            raise InvalidArgument(
                f"metadata[{key}]", f"must have at most {METADATA_VALUE} characters"
            )

"""What OpenAI's requests may hold: bounded, each refused by the name of what is too much."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from aitbc_server.openai import schema as schema_module
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.completion_request import CompletionRequest
from aitbc_server.openai.errors import OpenAIError, invalid
from aitbc_server.openai.operations import OPERATIONS
from aitbc_server.openai.response_request import ResponseRequest
from aitbc_server.openai.schema import Schema, read

USER = {"role": "user", "content": "hi"}
CHAT: dict[str, Any] = {"model": "m", "messages": [USER]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}
RESPONSE: dict[str, Any] = {"model": "m", "input": "hi"}
CALL = {"id": "c", "function": {"name": "f", "arguments": ""}}
TOOL = {"type": "function", "function": {"name": "f"}}
LARGE = "x" * (1 << 20) + "y"
# What refuses nothing, and is kept as far as there is room.
CUT = ("user", "safety_identifier", "prompt_cache_key", "session_id")
# Errors that pydantic may find in one request, each of which costs: far from one for each item.
FEW = 30


def chat(**fields: Any) -> tuple[type[BaseModel], dict[str, Any]]:
    return ChatRequest, {**CHAT, **fields}


def said(**fields: Any) -> tuple[type[BaseModel], dict[str, Any]]:
    return chat(messages=[USER, {**USER, **fields}])


def completion(**fields: Any) -> tuple[type[BaseModel], dict[str, Any]]:
    return CompletionRequest, {**COMPLETION, **fields}


def response(**fields: Any) -> tuple[type[BaseModel], dict[str, Any]]:
    return ResponseRequest, {**RESPONSE, **fields}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (response(input=[{}] * 30_000), "input[0].role"),
        (response(input=[USER] * 10_001), "input"),
        (response(input=[{"type": "image"}] * 1000), "input[0]"),
        (response(input=[{"type": {"a": 1}}] * 1000), "input[0]"),
        (response(input=[5] * 1000), "input[0]"),
        (response(input=5), "input"),
        (response(input=[]), "input"),
        (response(input=LARGE), "input"),
        (response(input=[USER, {**USER, "content": [{}] * 30_000}]), "input[1].content[0].type"),
        (response(input=[USER, {**USER, "content": LARGE}]), "input[1].content"),
        (response(input=[{"type": "function_call"}] * 9), "input[0].call_id"),
        (response(instructions=LARGE), "instructions"),
        (response(previous_response_id="r" * 257), "previous_response_id"),
        (response(tools=[{}] * 30_000), "tools[0].name"),
        (response(tools=[{"type": "function", "name": "f"}] * 1001), "tools"),
        (chat(messages=[{}] * 30_000), "messages[0].role"),
        (chat(messages=[USER] * 10_001), "messages"),
        (chat(messages=[{"role": "user"}] * 30_000), "messages"),
        (chat(messages={"role": "user"}), "messages"),
        (said(content=[{}] * 30_000), "messages[1].content[0].text"),
        (said(content=5), "messages[1].content"),
        (said(content=LARGE), "messages[1].content"),
        (said(content=[{"type": "text", "text": LARGE}]), "messages[1].content[0].text"),
        (said(tool_calls=[{}] * 30_000), "messages[1].tool_calls[0].id"),
        (said(tool_calls=[CALL] * 129), "messages[1].tool_calls"),
        (said(name="n" * 257), "messages[1].name"),
        (said(tool_call_id="n" * 257), "messages[1].tool_call_id"),
        (chat(tools=[{}] * 30_000), "tools[0].function"),
        (chat(tools=[TOOL] * 1001), "tools"),
        (chat(stop=["s"] * 30_000), "stop"),
        (chat(stop=[5] * 30_000), "stop[0]"),
        (chat(stop="s" * 4097), "stop"),
        (chat(metadata={f"key-{number}": number for number in range(30_000)}), "metadata"),
        (chat(metadata={f"key-{number}": "v" for number in range(17)}), "metadata"),
        (chat(logit_bias={str(number): "v" for number in range(30_000)}), "logit_bias"),
        (chat(model="m" * 257), "model"),
        (completion(prompt=[-5] * 30_000), "prompt[0]"),
        (completion(prompt=["p"] * 1001), "prompt"),
        (completion(prompt=[[1], [-1]] * 300), "prompt[1][0]"),
        (completion(prompt=[5] * 262_145), "prompt"),
        (completion(prompt=[[]]), "prompt[0]"),
        (chat(stop_token_ids=[1] * 1025), "stop_token_ids"),
        (chat(allowed_token_ids=[]), "allowed_token_ids"),
        (chat(bad_words=["w"] * 129), "bad_words"),
        (chat(documents=[{"text": 1}]), "documents[0].text"),
        (completion(prompt=[]), "prompt"),
        (completion(prompt=LARGE), "prompt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_too_much_is_named_and_no_more_is_looked_at(
    request_: tuple[type[BaseModel], dict[str, Any]], param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    def counting(error: ValidationError) -> OpenAIError:
        counts.append(error.error_count())
        return invalid(error)

    monkeypatch.setattr(schema_module, "invalid", counting)
    schema, body = request_
    with pytest.raises(OpenAIError) as caught:
        await read(schema, json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, param)
    assert counts[0] <= FEW


@pytest.mark.parametrize(
    ("request_", "code", "param", "why"),
    [
        (chat(tools=[5]), "invalid_value", "tools[0]", "valid object, got 5"),
        (chat(tools=[{"type": "x"}]), "unsupported_parameter", "tools[0]", "the type 'x'"),
        (chat(tools=[{"type": 5}]), "unsupported_parameter", "tools[0]", "is no text"),
        (chat(response_format="json"), "invalid_value", "response_format", 'got "json"'),
        (
            chat(response_format={}),
            "missing_required_parameter",
            "response_format.type",
            "Missing",
        ),
        (response(tools=[{"type": "x"}]), "unsupported_parameter", "tools[0]", "the type 'x'"),
        (
            response(text={"format": {"type": "x"}}),
            "unsupported_parameter",
            "text.format",
            "the type 'x'",
        ),
        (
            said(content=[{"type": "x"}]),
            "unsupported_parameter",
            "messages[1].content[0]",
            "the type 'x'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_of_no_known_kind_is_told_by_what_it_lacks(
    request_: tuple[type[BaseModel], dict[str, Any]], code: str, param: str, why: str
) -> None:
    schema, body = request_
    with pytest.raises(OpenAIError) as caught:
        await read(schema, json.dumps(body).encode())
    assert (caught.value.code, caught.value.param) == (code, param)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "model": "n", "input": "hi"}',
        b'{"model": "m", "input": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"model": "m", "input": [' + b"{}," * 2_600_000 + b"{}]}",
        b'{"model": "m", "tools": [' + b"[" * 500_000,
    ],
)
async def test_json_beyond_its_bounds_is_refused(body: bytes) -> None:
    with pytest.raises(OpenAIError) as caught:
        await read(ResponseRequest, body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_answers_to_many_prompts_have_a_bound() -> None:
    request = CompletionRequest.model_validate({"model": "m", "prompt": ["p"] * 128, "n": 8})
    with pytest.raises(OpenAIError) as caught:
        request.submissions()
    assert caught.value.param == "n"


@pytest.mark.parametrize("schema", [o.request for o in OPERATIONS if o.request])
def test_every_list_map_and_text_has_a_bound(schema: type[BaseModel]) -> None:
    made = schema.model_json_schema()
    unbounded = [
        f"{where}: {part}"
        for name, model in {"": made, **made.get("$defs", {})}.items()
        for field, property_ in model.get("properties", {}).items()
        for where, part in _parts(f"{name}.{field}", property_)
        if not _is_bounded(part) and field not in CUT
    ]
    assert not unbounded


@pytest.mark.parametrize("field", CUT)
@pytest.mark.parametrize("schema", [o.request for o in OPERATIONS if o.request])
def test_of_a_long_hint_the_beginning_is_kept(schema: type[BaseModel], field: str) -> None:
    if (given := schema.model_fields.get(field)) is None:
        return
    reader: TypeAdapter[Any] = TypeAdapter(cast("Any", given.annotation))
    assert reader.validate_python("\0" + "é" * 600) == "é" * 512


def _parts(where: str, schema: Any) -> list[tuple[str, Any]]:
    found = [(where, schema)]
    for key in ("anyOf", "oneOf"):
        for part in schema.get(key, ()):
            found += _parts(where, part)
    for key in ("items", "additionalProperties"):
        if isinstance(part := schema.get(key), dict):
            found += _parts(f"{where}[]", part)
    return found


def _is_bounded(schema: Any) -> bool:
    kind = schema.get("type")
    if kind == "string":
        return bool("maxLength" in schema or "enum" in schema or "const" in schema)
    if kind == "array":
        return "maxItems" in schema
    # Schemas of tools and answers are bounded as a whole, as texts.
    if kind == "object" and schema.get("additionalProperties") not in (None, False, True):
        return "maxProperties" in schema
    return True


def test_null_reads_as_absent_whatever_else_is_there() -> None:
    class Thing(Schema):
        a: int = 1

    assert Thing.model_validate({"a": None}).a == 1

"""What becomes of parameters: as their table says, whatever a request has."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import BaseModel

from aitbc_server.openai.chat_messages import Call, ChatMessage
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.chat_tools import ChatTool
from aitbc_server.openai.completion_request import CompletionRequest
from aitbc_server.openai.content_parts import (
    AudioPart,
    ImagePart,
    Place,
    RefusalPart,
    SoundPart,
    TextPart,
    ThinkingPart,
    VideoPart,
)
from aitbc_server.openai.embeddings import EmbeddingRequest
from aitbc_server.openai.engine_parameters import Repetition
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.forms import StructuredOutputs
from aitbc_server.openai.input_tokens import InputTokensRequest
from aitbc_server.openai.parameters import Policy, section
from aitbc_server.openai.query import (
    BatchesQuery,
    FilesQuery,
    ItemsQuery,
    ModelsQuery,
    Query,
    ResponseQuery,
    members_of,
)
from aitbc_server.openai.response_prompt import Reasoning, Text
from aitbc_server.openai.response_request import ResponseRequest
from aitbc_server.openai.schema import Schema, StreamOptions, read
from aitbc_server.openai.scores import RerankRequest, ScoreRequest, TextDocument
from aitbc_server.openai.tokens import DetokenizeRequest, TokenizeRequest
from aitbc_server.openai.unknown import OTHER, Ignorance, PassedOver
from aitbc_server.openai.uploads import ExpiresAfter, FileForm, Form

USER = {"role": "user", "content": "hi"}
# Of sections that several objects have in common, one of these.
SCHEMAS: dict[str, tuple[type[Schema], dict[str, Any]]] = {
    "chat": (ChatRequest, {"model": "m", "messages": [USER]}),
    "completions": (CompletionRequest, {"model": "m", "prompt": "hi"}),
    "responses": (ResponseRequest, {"model": "m", "input": "hi"}),
    "input_tokens": (InputTokensRequest, {"model": "m", "input": "hi"}),
    "response_text": (Text, {}),
    "response_reasoning": (Reasoning, {}),
    "message": (ChatMessage, USER),
    "part": (TextPart, {"type": "text", "text": "hi"}),
    "call": (Call, {"id": "c", "function": {"name": "f", "arguments": "{}"}}),
    "tool": (ChatTool, {"type": "function", "function": {"name": "f"}}),
    "stream_options": (StreamOptions, {}),
    "embeddings": (EmbeddingRequest, {"input": "hi"}),
    "rerank": (RerankRequest, {"query": "hi", "documents": ["a"]}),
    "score": (ScoreRequest, {"text_1": "hi", "text_2": ["a"]}),
    "document": (TextDocument, {"text": "hi"}),
    "tokenize": (TokenizeRequest, {"prompt": "hi"}),
    "detokenize": (DetokenizeRequest, {"tokens": [1]}),
    "place": (Place, {"url": "data:,"}),
    "repetition_detection": (Repetition, {}),
    "structured_outputs": (StructuredOutputs, {"regex": "a"}),
    "query": (Query, {}),
    "response_query": (ResponseQuery, {}),
    "items_query": (ItemsQuery, {}),
    "files_query": (FilesQuery, {}),
    "batches_query": (BatchesQuery, {}),
    "models_query": (ModelsQuery, {}),
    "file_form": (FileForm, {"purpose": "batch"}),
    "expiry": (ExpiresAfter, {"anchor": "created_at", "seconds": 3600}),
}
PASSED_OVER = [
    (name, row)
    for name in SCHEMAS
    for row in section(name).values()
    if row.policy is not Policy.HONOURED
]
SOMETHING: dict[str, Any] = {"some": ["thing"]}


async def reading(schema: type[BaseModel], body: Any) -> tuple[Any, list[str]]:
    """Returns the request, and what was passed over."""
    noted: list[PassedOver] = []
    request = await read(schema, json.dumps(body).encode(), noted.append)
    return request, [path for one in noted for path in one.paths]


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_the_table_says_is_honoured_is_read_and_nothing_else(name: str) -> None:
    schema, _ = SCHEMAS[name]
    fields = {field.alias or name for name, field in schema.model_fields.items()}
    if name == "part":
        for kind in (RefusalPart, ThinkingPart, ImagePart, VideoPart, AudioPart, SoundPart):
            fields |= set(kind.model_fields)
    honoured = {row.name for row in section(name).values() if row.policy is Policy.HONOURED}
    assert fields == honoured


@pytest.mark.parametrize(
    ("name", "row"), PASSED_OVER, ids=lambda value: getattr(value, "name", value)
)
async def test_what_is_not_honoured_is_dealt_with_as_the_table_says(name: str, row: Any) -> None:
    schema, body = SCHEMAS[name]
    plain, _ = await reading(schema, body)
    for value in (None, *row.no_ops):
        # What asks for nothing changes nothing, and is not told.
        assert await reading(schema, {**body, row.name: value}) == (plain, [])
    asking = reading(schema, {**body, row.name: SOMETHING})
    if row.policy is Policy.HINT:
        assert await asking == (plain, [])
    elif row.policy is Policy.IGNORED:
        assert await asking == (plain, [row.name])
    else:
        with pytest.raises(OpenAIError) as caught:
            await asking
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", row.name)
        assert row.note in str(caught.value)


async def test_unknown_members_are_told_with_their_places_at_every_level() -> None:
    request, told = await reading(
        ChatRequest,
        {
            "model": "m",
            "bogus": 1,
            "nothing": None,
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "x": [{"role": {}}],
                    "content": [{"type": "text", "text": "hi", "y": {}}],
                    "tool_calls": [
                        {"id": "c", "function": {"name": "f", "arguments": "{}", "z": 1}}
                    ],
                },
            ],
            "stream_options": {"include_usage": True, "w": 1},
        },
    )
    assert sorted(told) == [
        "bogus",
        "messages[1].content[0].y",
        "messages[1].tool_calls[0].function.z",
        "messages[1].x",
        "stream_options.w",
    ]
    plain, _ = await reading(
        ChatRequest,
        {
            "model": "m",
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "hi"}],
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
                },
            ],
            "stream_options": {"include_usage": True},
        },
    )
    assert request.submissions() == plain.submissions()


@pytest.mark.parametrize(
    "unknown",
    [
        {f"name-{number}" + "n" * 150: 1 for number in range(45_000)},
        {"name": "x" * 8_000_000},
        {"name": [0] * 99_000},
        {"messages": [{**USER, **{f"n{number}": 1 for number in range(45)}} for _ in range(1000)]},
        {"messages": [{**USER, "name\r\nset-cookie: \u00e9\U0001f642\0" * 20: 1}]},
    ],
    ids=["names", "text", "list", "messages", "unsafe"],
)
async def test_any_amount_of_unknown_is_read_soon_and_told_briefly(
    unknown: dict[str, Any],
) -> None:
    noted: list[PassedOver] = []
    body = json.dumps({"model": "m", "messages": [USER], **unknown}).encode()
    begin = time.process_time()
    await read(ChatRequest, body, noted.append)
    assert time.process_time() - begin < 2
    [one] = noted
    assert len(one.header) < 2000
    assert one.header.isascii()
    assert one.header.decode().isprintable()
    assert one.has_more == (len(body) > 100_000 and "name" not in unknown)


async def test_only_names_of_the_table_are_counted_by_name() -> None:
    ignorance = Ignorance()
    for paths in (("bogus", "mirostat"), ("messages[0].prefix", "messages[1].prefix")):
        ignorance.note(PassedOver(paths, has_more=False), "POST /v1/chat/completions")
    assert ignorance.counts == {("mirostat",): 1, (OTHER,): 1, ("prefix",): 1}


def test_strict_refuses_the_first_by_its_place() -> None:
    with pytest.raises(OpenAIError) as caught:
        Ignorance(is_strict=True).note(PassedOver(("messages[0].x", "y"), has_more=False), "")
    assert (caught.value.status, caught.value.code, caught.value.param) == (
        400,
        "unsupported_parameter",
        "messages[0].x",
    )


@pytest.mark.parametrize(
    ("query", "members"),
    [
        (b"", {}),
        (b"limit=5&limit=6&after=&flag", {"limit": "6", "after": "", "flag": ""}),
        (b"include[]=a&include=b&include%5B%5D=c", {"include": ["a", "b", "c"]}),
        (b"x[]=a&x=b&after=%C3%A9+1", {"x": "b", "after": "\u00e9 1"}),
    ],
)
def test_a_query_is_read_as_the_object_that_it_would_be_as_a_body(
    query: bytes, members: dict[str, Any]
) -> None:
    assert members_of(query) == members


def test_a_query_has_so_many_parameters_at_most() -> None:
    assert len(members_of(b"&".join(b"p%d=1" % number for number in range(100)))) == 100
    with pytest.raises(OpenAIError):
        members_of(b"a=1&" * 101)


@pytest.mark.parametrize(
    ("fields", "members"),
    [
        ({"a": "1", "b[c]": "2", "b[d]": "3"}, {"a": "1", "b": {"c": "2", "d": "3"}}),
        ({"b": "1", "b[c]": "2"}, {"b": {"c": "2"}}),
        ({"b[c][d]": "1", "[c]": "2", "b[]": "3"}, {"b[c][d]": "1", "[c]": "2", "b[]": "3"}),
    ],
)
def test_members_of_objects_have_fields_of_a_form(
    fields: dict[str, str], members: dict[str, Any]
) -> None:
    assert Form(fields).members == members


def test_of_two_parts_of_a_request_both_are_told_and_no_more_than_of_one() -> None:
    query = PassedOver(tuple(f"q{number}" for number in range(10)), has_more=False)
    body = PassedOver(("q0", "b", *(f"b{number}" for number in range(6))), has_more=False)
    both = query.joined(body)
    assert both == PassedOver((*query.paths, "b", "b0", "b1", "b2", "b3", "b4"), has_more=True)
    assert query.joined(query) == query

"""What the document says of the API, made of the classes that read its requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from aitbc_server.anthropic.answers import (
    Failure,
    Message,
    MessageEvent,
    ModelInfo,
    ModelPage,
    TokenCount,
)
from aitbc_server.anthropic.request import CountRequest, MessagesRequest
from aitbc_server.openai.part import IDEMPOTENCY_KEY, IGNORED, JOB_ID, Untitled, query_parameters
from aitbc_server.openai.query import ModelsQuery, Query
from aitbc_server.rest.openapi.part import JSON, Contents, Part, failures
from aitbc_server.rest.openapi.schemas import Schema

_NAME = "Anthropic"
# Its objects have names that others have too.
_PREFIX = "Anthropic."
_REFERENCE = "#/components/schemas/" + _PREFIX
_MODELS: tuple[type[BaseModel], ...] = (
    CountRequest,
    Failure,
    Message,
    MessageEvent,
    MessagesRequest,
    ModelInfo,
    ModelPage,
    TokenCount,
)
_ASKED: Schema = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "Explain quantum computing"}],
}
_VERSION: Schema = {
    "name": "anthropic-version",
    "in": "header",
    "description": "Asks for an answer in Anthropic's words, whichever version it names.",
    "schema": {"type": "string"},
}
_STATUSES = (400, 401, 403, 404, 409, 413, 415, 429, 500, 502, 504)


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _REFERENCE + model.__name__}


_OVERLOADED: Schema = {
    "description": "Too much to do.",
    "content": {JSON: {"schema": _reference(Failure)}},
}


def _contents() -> Contents:
    _, made = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template=_REFERENCE + "{model}",
        schema_generator=Untitled,
    )
    paths: Schema = {
        "/v1/messages": {
            "post": _operation(
                "createMessage",
                "Answers a conversation",
                MessagesRequest,
                {**_ASKED, "max_tokens": 256},
                Message,
                MessageEvent,
            )
        },
        "/v1/messages/count_tokens": {
            "post": _operation(
                "countMessageTokens",
                "Counts the tokens that a conversation has for its model",
                CountRequest,
                _ASKED,
                TokenCount,
            )
        },
        # What OpenAI's part says of these paths is joined to this.
        "/v1/models": {
            "get": _reading("listModels", ModelPage, query=ModelsQuery),
        },
        "/v1/models/{model}": {"get": _reading("retrieveModel", ModelInfo, 404)},
    }
    return Contents(paths, {_PREFIX + name: schema for name, schema in made["$defs"].items()})


def _operation(
    name: str,
    summary: str,
    request: type[BaseModel],
    example: Schema,
    answer: type[BaseModel],
    event: type[BaseModel] | None = None,
) -> Schema:
    content: Schema = {JSON: {"schema": _reference(answer)}}
    if event is not None:
        content["text/event-stream"] = {"schema": _event(event)}
    said = (answer.__doc__ or "").partition("\n")[0]
    return {
        "operationId": name,
        "tags": [_NAME],
        "summary": summary,
        "description": "As Anthropic's API has it; `x-aitbc-ignored` names what has no effect.",
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _reference(request), "example": example}},
        },
        "responses": {
            "200": {"description": said, "content": content, "headers": JOB_ID | IGNORED},
            **failures(_STATUSES, _reference(Failure)),
            "529": _OVERLOADED,
        },
    }


def _reading(
    name: str, answer: type[BaseModel], *statuses: int, query: type[Query] = Query
) -> Schema:
    said = (answer.__doc__ or "").partition("\n")[0]
    content: Schema = {JSON: {"schema": _reference(answer)}}
    return {
        "operationId": name,
        "tags": [_NAME],
        "description": "With the header `anthropic-version`, as Anthropic's API has it.",
        "parameters": [_VERSION, *query_parameters(query)],
        "responses": {
            "200": {"description": said, "content": content, "headers": IGNORED},
            **failures((400, 401, *statuses, 429, 500), _reference(Failure)),
            "529": _OVERLOADED,
        },
    }


def _event(event: type[BaseModel]) -> Schema:
    # Before OpenAPI 3.2, the schema of a stream is that of each of its parts.
    message: dict[str, Any] = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"anyOf": [_reference(event), _reference(Failure)]},
    }
    return {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": message},
        "required": ["event", "data"],
    }


ANTHROPIC_PART = Part(
    _NAME,
    "Anthropic's API, for its clients: each message is a job with a receipt. A key goes into "
    "`X-Api-Key` or `Authorization: Bearer`. `GET /v1/models` answers in its words where a request "
    "has the header `anthropic-version`.",
    _contents,
)

"""What the document says of the API, made of the classes that read its requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from aitbc_server.openai.answers import Failure
from aitbc_server.openai.operations import OPERATIONS, Operation
from aitbc_server.rest.openapi.part import (
    JSON,
    PUBLIC,
    Contents,
    Part,
    failures,
    path_parameter,
)
from aitbc_server.rest.openapi.schemas import Schema

_NAME = "OpenAI"
# Its objects have names that ours have too.
_PREFIX = "OpenAI."
_REFERENCE = "#/components/schemas/" + _PREFIX
# Not that of the examples with miners that poll: nobody would answer.
_MODEL = "smollm2"
_VARIABLES = {
    "model": path_parameter("model", "Name of the model.", {"type": "string"}, _MODEL),
    "response_id": path_parameter(
        "response_id", "The response.", {"type": "string"}, "resp_01k9zq4b5mr6t8vwxyz0123456"
    ),
}
_QUERY: dict[str, list[Schema]] = {
    "getResponse": [
        {
            "name": "stream",
            "in": "query",
            "description": "Whether to follow it, event by event.",
            "schema": {"type": "boolean"},
        },
        {
            "name": "starting_after",
            "in": "query",
            "description": "`sequence_number` of the last event that the reader has.",
            "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
        },
    ]
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes a repetition of the request find the same jobs.",
    "schema": {"type": "string", "maxLength": 120, "pattern": "^[!-~]*$"},
}
_JOB_ID = {
    "X-Job-Id": {
        "description": "The jobs behind the answer, separated by commas.",
        "schema": {"type": "string"},
    }
}
_EXAMPLES: dict[str, Schema] = {
    "createChatCompletion": {
        "model": _MODEL,
        "messages": [{"role": "user", "content": "Explain quantum computing"}],
    },
    "createCompletion": {"model": _MODEL, "prompt": "Once upon a time"},
    "createResponse": {"model": _MODEL, "input": "Explain quantum computing"},
}
_ALWAYS = (401, 403, 429, 500, 503)
_OF_BODIES = (400, 413, 415)
# A model or response that is not there; jobs that end without a result; a restarted stream.
_OF_JOBS = (400, 404, 409, 502, 504)


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _contents() -> Contents:
    _, made = models_json_schema(
        [(model, "validation") for model in _models()],
        ref_template=_REFERENCE + "{model}",
        schema_generator=_Untitled,
    )
    paths: Schema = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.http_method.lower()] = _operation(operation)
    return Contents(paths, {_PREFIX + name: schema for name, schema in made["$defs"].items()})


def _models() -> set[type[BaseModel]]:
    models: set[type[BaseModel]] = {Failure}
    for operation in OPERATIONS:
        models.add(operation.answer)
        models |= {model for model in (operation.request, operation.event) if model is not None}
    return models


def _operation(operation: Operation) -> Schema:
    described: Schema = {
        "operationId": operation.name,
        "tags": [_NAME],
        "summary": operation.summary,
        "description": "As OpenAI's API has it; what is not supported is refused by name.",
    }
    parameters = [value for key, value in _VARIABLES.items() if f"{{{key}}}" in operation.path]
    parameters += _QUERY.get(operation.name, [])
    if operation.request is not None:
        parameters.append(_IDEMPOTENCY_KEY)
        body = {"schema": _reference(operation.request), "example": _EXAMPLES[operation.name]}
        described["requestBody"] = {"required": True, "content": {JSON: body}}
    if parameters:
        described["parameters"] = parameters
    described["responses"] = {"200": _success(operation), **_failures(operation)}
    if not operation.has_jobs:
        # What is served is told by `/v1/stats`, too.
        described["security"] = list(PUBLIC)
    return described


def _success(operation: Operation) -> Schema:
    content: Schema = {JSON: {"schema": _reference(operation.answer)}}
    if operation.event is not None:
        content["text/event-stream"] = {"schema": _event(operation.event)}
    said = (operation.answer.__doc__ or "").partition("\n")[0]
    answer: Schema = {"description": said, "content": content}
    return {**answer, "headers": _JOB_ID} if operation.has_jobs else answer


def _event(event: type[BaseModel]) -> Schema:
    # Before OpenAPI 3.2, the schema of a stream is that of each of its parts.
    message = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"anyOf": [_reference(event), _reference(Failure)]},
    }
    return {
        "type": "object",
        "properties": {
            "event": {"type": "string"},
            "data": {"anyOf": [{"const": "[DONE]"}, message]},
        },
        "required": ["data"],
    }


def _failures(operation: Operation) -> Schema:
    statuses = set(_ALWAYS)
    if operation.request is not None:
        statuses |= {*_OF_BODIES}
    if operation.has_jobs:
        statuses |= {*_OF_JOBS}
    elif "{" in operation.path:
        statuses.add(404)
    if not operation.has_jobs:
        statuses -= {401, 403}
    return failures(sorted(statuses), _reference(Failure))


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _REFERENCE + model.__name__}


OPENAI = Part(
    _NAME,
    "OpenAI's API, for its clients: each request that generates is a job, or several, with a "
    "receipt. A key goes into `Authorization: Bearer` or, as everywhere, `X-Api-Key`.",
    _contents,
)

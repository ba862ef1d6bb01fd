"""What the document says of the API, made of the classes that read its requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from aitbc_server.openai.answers import Failure
from aitbc_server.openai.file_document import BATCH_EXAMPLE, FORM
from aitbc_server.openai.operations import OPERATIONS, Operation
from aitbc_server.openai.query import Query
from aitbc_server.rest.openapi.part import (
    JSON,
    PUBLIC,
    Contents,
    Part,
    failures,
    path_parameter,
    success,
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
    "file_id": path_parameter(
        "file_id", "The file.", {"type": "string"}, "file-01k9zq4b5mr6t8vwxyz0123456"
    ),
    "batch_id": path_parameter(
        "batch_id", "The batch.", {"type": "string"}, "batch_01k9zq4b5mr6t8vwxyz0123456"
    ),
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes a repetition of the request find the same jobs.",
    "schema": {"type": "string", "maxLength": 120, "pattern": "^[!-~]*$"},
}
JOB_ID = {
    "X-Job-Id": {
        "description": "The jobs behind the answer, separated by commas.",
        "schema": {"type": "string"},
    }
}
IGNORED = {
    "X-Aitbc-Ignored": {
        "description": "What the request has that was passed over: at most 16 names with their "
        "places, separated by commas, and `...` where there are more.",
        "schema": {"type": "string"},
    }
}
_POLICY = (
    " The description of a field says what it becomes in the job, or why it has no effect. What "
    "the request has beside is ignored, and named in `X-Aitbc-Ignored`; what an answer would be "
    "wrong without is refused by name."
)
_RERANK = {
    "model": _MODEL,
    "query": "the capital of France",
    "documents": ["Berlin", "Paris"],
    "top_n": 1,
}
_SCORE = {"model": _MODEL, "text_1": "the capital of France", "text_2": ["Berlin", "Paris"]}
_EXAMPLES: dict[str, Schema] = {
    "createChatCompletion": {
        "model": _MODEL,
        "messages": [{"role": "user", "content": "Explain quantum computing"}],
    },
    "createCompletion": {"model": _MODEL, "prompt": "Once upon a time"},
    "createResponse": {"model": _MODEL, "input": "Explain quantum computing"},
    "countInputTokens": {"model": _MODEL, "input": "Explain quantum computing"},
    "createEmbedding": {"model": _MODEL, "input": ["Paris", "Berlin"], "encoding_format": "float"},
    **dict.fromkeys(("rerank", "rerankV1", "rerankV2"), _RERANK),
    **dict.fromkeys(("score", "scoreV1"), _SCORE),
    "tokenize": {"model": _MODEL, "prompt": "Once upon a time"},
    "detokenize": {"model": _MODEL, "tokens": [1, 2, 3]},
    "createBatch": BATCH_EXAMPLE,
}
# A query, which every request may have; a key, and what it may do; what there is too much of.
_ALWAYS = (400, 401, 403, 429, 500, 503)
_OF_BODIES = (413, 415)
# A model or response that is not there; jobs that end without a result; a restarted stream.
_OF_JOBS = (404, 409, 502, 504)
# Something that is not there; a limit that is met, or an end that has come.
_OF_FILES = (404, 409)


class Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: Any) -> Schema:
        # What tells the branches apart is a function, which no schema knows: a value may fit two.
        made = super().tagged_union_schema(schema)
        return {{"oneOf": "anyOf"}.get(name, name): value for name, value in made.items()}


def _contents() -> Contents:
    _, made = models_json_schema(
        [(model, "validation") for model in _models()],
        ref_template=_REFERENCE + "{model}",
        schema_generator=Untitled,
    )
    paths: Schema = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.http_method.lower()] = _operation(operation)
    return Contents(paths, {_PREFIX + name: schema for name, schema in made["$defs"].items()})


def query_parameters(query: type[Query]) -> list[Schema]:
    """Returns the parameters of a query."""
    told = query.model_json_schema(schema_generator=Untitled)["properties"]
    return [_query_parameter(name, told[name]) for name in query.model_fields]


def _query_parameter(name: str, schema: Schema) -> Schema:
    # Nothing in a query is null.
    forms = [form for form in schema.pop("anyOf", ()) if form != {"type": "null"}]
    parameter: Schema = {"name": name, "in": "query"}
    if "description" in schema:
        parameter["description"] = schema.pop("description")
    schema = {**(forms[0] if forms else {}), **schema}
    if schema.get("default") in (None, "", []):
        schema.pop("default", None)
    return {**parameter, "schema": schema}


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
        "description": "As OpenAI's API has it.",
    }
    if operation.request is not None:
        described["description"] += _POLICY
    parameters = [value for key, value in _VARIABLES.items() if f"{{{key}}}" in operation.path]
    parameters += query_parameters(operation.query)
    if operation.request is not None:
        if operation.has_jobs:
            parameters.append(IDEMPOTENCY_KEY)
        body = {"schema": _reference(operation.request), "example": _EXAMPLES[operation.name]}
        described["requestBody"] = {"required": True, "content": {JSON: body}}
    if operation.is_upload:
        form = {"schema": FORM, "encoding": {"file": {"contentType": "application/jsonl"}}}
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": form}}
    if parameters:
        described["parameters"] = parameters
    described["responses"] = {"200": _success(operation), **_failures(operation)}
    if _is_public(operation):
        # What is served is told by `/v1/stats`, too.
        described["security"] = list(PUBLIC)
    return described


def _is_public(operation: Operation) -> bool:
    return not (operation.has_jobs or operation.is_of_files)


def _success(operation: Operation) -> Schema:
    if operation.is_download:
        return success(
            "The content.", "application/octet-stream", {"type": "string", "format": "binary"}
        )
    content: Schema = {JSON: {"schema": _reference(operation.answer)}}
    if operation.event is not None:
        content["text/event-stream"] = {"schema": _event(operation.event)}
    said = (operation.answer.__doc__ or "").partition("\n")[0]
    answer: Schema = {"description": said, "content": content}
    headers = JOB_ID | IGNORED if operation.has_jobs else IGNORED
    return {**answer, "headers": headers}


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
    if operation.request is not None or operation.is_upload:
        statuses |= {*_OF_BODIES}
    if operation.has_jobs:
        statuses |= {*_OF_JOBS}
    elif _is_public(operation):
        statuses -= {403}
        statuses |= {404} if "{" in operation.path else set()
    else:
        statuses |= {*_OF_FILES}
    return failures(sorted(statuses), _reference(Failure))


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _REFERENCE + model.__name__}


OPENAI = Part(
    _NAME,
    "OpenAI's API, for its clients: each request that generates is a job, or several, with a "
    "receipt. A key goes into `Authorization: Bearer` or, as everywhere, `X-Api-Key`.",
    _contents,
)

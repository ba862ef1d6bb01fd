"""Routes as OpenAPI operations: parameters, bodies, and every answer with its status."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from aitbc.v1 import annotations_pb2
from aitbc_server.api.validation import is_required
from aitbc_server.rest.catalogue import ErrorRow, error_rows
from aitbc_server.rest.fields import TextField
from aitbc_server.rest.openapi.comments import Comments
from aitbc_server.rest.openapi.schemas import Schema, Schemas, example_of
from aitbc_server.rest.route import Route
from aitbc_server.rest.table import CSV

API_KEY = "ApiKey"
_JSON = "application/json"
# Reasons that no REST call meets: they end Work streams, or are of Connect and gRPC-Web.
_NOT_OF_REST = frozenset(
    {"SESSION_SILENT", "SESSION_SUPERSEDED", "UNEXPECTED_COMPRESSION", "UNIMPLEMENTED"}
)
ERROR = {"$ref": "#/components/schemas/Error"}
# Statuses that mean the same in every call, and whether a call answers them.
_SHARED = (400, 401, 403, 413, 415, 429, 500, 503)
_RETRY_AFTER = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "integer", "minimum": 1},
}
# Chooses the streaming one of two methods that share a path: see `Route.chosen_by`.
_STREAM: Schema = {"name": "stream", "in": "query", "schema": {"type": "boolean"}}
# Of draft-ietf-httpapi-ratelimit-headers, where a limit was reached rather than a queue full.
_LIMITS = {
    "RateLimit-Policy": {
        "description": "The limit: its name, how many (`q`), and for how many seconds (`w`).",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "What is left of it (`r`), and the seconds until there is more (`t`).",
        "schema": {"type": "string"},
    },
}
_CHALLENGE = {
    "description": "How to authenticate.",
    "schema": {"type": "string"},
}


class Operations:
    """Makes the operation of each route."""

    def __init__(self, schemas: Schemas, comments: Comments, methods: Iterable[MethodDescriptor]):
        self._schemas = schemas
        self._comments = comments
        self._methods = {method.name: method for method in methods}
        self._seen: dict[str, int] = {}

    def operation(self, route: Route) -> Schema:
        """Returns an OpenAPI operation."""
        method, comments = route.method, self._comments
        operation: Schema = {
            "operationId": self._operation_id(method),
            "tags": [method.containing_service.name],
            "summary": comments.summary(method.full_name),
            "description": comments.description(method.full_name),
        }
        if parameters := list(self._parameters(route)):
            operation["parameters"] = parameters
        if route.has_body:
            operation["requestBody"] = self._body(route)
        operation["responses"] = self._successes(route) | self._failures(route)
        if is_public(method):
            operation["security"] = []
        return operation

    def _operation_id(self, method: MethodDescriptor) -> str:
        name = method.name[0].lower() + method.name[1:]
        self._seen[name] = number = self._seen.get(name, 0) + 1
        return name if number == 1 else f"{name}{number}"

    # Requests

    def _parameters(self, route: Route) -> Iterator[Schema]:
        example = example_of(route.method.input_type)
        for field in route.path_fields:
            yield self._parameter(route, field, "path", ".".join(field.path), example)
        # A field stands under each way to write its name: the first is in snake_case.
        for field in dict.fromkeys(route.query_fields.values()):
            yield self._parameter(route, field, "query", field.name, example)
        for header, field in route.header_fields.items():
            yield self._parameter(route, field, "header", header.title(), example)
        if route.streamed is not None:
            summary = self._comments.summary(route.streamed.method.full_name)
            yield {**_STREAM, "description": f"{summary}, and sends each message as it comes."}

    def _parameter(
        self, route: Route, text: TextField, place: str, name: str, example: Mapping[str, Any]
    ) -> Schema:
        field = _field_of(route.method, text)
        parameter: Schema = {"name": name, "in": place}
        if place == "path" or (place == "query" and is_required(field)):
            parameter["required"] = True
        if comment := self._comments.description(field.full_name):
            parameter["description"] = comment
        parameter["schema"] = self._schemas.parameter(field)
        if place == "query" and not text.is_string:
            parameter["schema"] = _or_empty(parameter["schema"])
        if len(text.path) == 1 and text.path[0] in example:
            parameter["example"] = example[text.path[0]]
        return parameter

    def _body(self, route: Route) -> Schema:
        descriptor = route.method.input_type
        if route.body_field:
            field = descriptor.fields_by_name[route.body_field]
            schema, is_needed = self._schemas.parameter(field), is_required(field)
        else:
            bound = {field.path[0] for field in route.path_fields if len(field.path) == 1}
            schema = self._schemas.object(descriptor, bound)
            is_needed = "required" in schema or "oneOf" in schema
            if not bound:
                schema = self._schemas.message(descriptor)
        return {"required": is_needed, "content": {_JSON: {"schema": schema}}}

    # Answers

    def _successes(self, route: Route) -> Schema:
        empty = {"description": "Nothing, without a body."}
        if route.method.server_streaming:
            answers: Schema = {str(route.status): self._stream(route)}
            return {**answers, str(route.empty_status): empty} if route.empty_status else answers
        response = route.method.output_type
        if route.response_field:
            schema = self._schemas.parameter(response.fields_by_name[route.response_field])
        else:
            schema = self._schemas.response(response)
        content: Schema = {"schema": schema}
        if example := example_of(response):
            content["example"] = example
        full: Schema = {
            "description": self._said_of(response.full_name),
            "content": {_JSON: content},
        }
        if route.streamed is not None:
            full["content"] = full["content"] | self._stream(route.streamed)["content"]
        if route.table is not None:
            columns = ", ".join(route.table.columns)
            text = {"type": "string", "description": f"Columns: {columns}."}
            full["content"] = full["content"] | {CSV: {"schema": text}}
        answers = {str(route.status): full}
        if route.existing_field:
            answers["200"] = {**full, "description": "The same, for what was there before."}
        if route.empty_status:
            answers[str(route.empty_status)] = empty
        return answers

    def _stream(self, route: Route) -> Schema:
        message = self._schemas.message(route.method.output_type)
        text = {
            "type": "string",
            "contentMediaType": _JSON,
            # The last event of a stream that fails is named `error`.
            "contentSchema": {"anyOf": [message, ERROR]},
        }
        event = {
            "type": "object",
            "properties": {
                "event": {"type": "string"},
                "id": {"type": "string"},
                "data": text,
            },
            "required": ["data"],
        }
        failed = {"type": "object", "properties": {"error": ERROR}, "required": ["error"]}
        return {
            "description": self._said_of(route.method.output_type.full_name),
            "content": {
                # Before OpenAPI 3.2, the schema of a stream is that of each of its parts.
                "text/event-stream": {"schema": event},
                "application/x-ndjson": {"schema": {"anyOf": [message, failed]}},
            },
        }

    def _said_of(self, full_name: str) -> str:
        text = self._comments.description(full_name).partition("\n")[0]
        return "Success." if not text or text.startswith("Answers ") else text

    def _failures(self, route: Route) -> Schema:
        method = route.method
        own = self._own_errors(method)
        answers: Schema = {}
        for row in own:
            answers.setdefault(str(row.status), []).append(row)
        answers = {
            status: failure(rows) for status, rows in answers.items() if int(status) not in _SHARED
        }
        skipped = set()
        if _options(method).Extensions[annotations_pb2.is_unlimited]:
            skipped |= {429}
        if is_public(method):
            skipped |= {401, 403}
        elif not _options(method).Extensions[annotations_pb2.roles]:
            skipped |= {403}
        if not route.has_body:
            skipped |= {413, 415}
        for status in shared_statuses():
            if status not in skipped:
                answers[str(status)] = {"$ref": f"#/components/responses/{_key(status)}"}
        return dict(sorted(answers.items()))

    def _own_errors(self, method: MethodDescriptor) -> list[ErrorRow]:
        """Returns the errors that a method's comment names, itself or by "as OtherMethod"."""
        text = self._comments.errors(method.full_name)
        named = re.findall(r"`([A-Z_]+)`", text)
        rows = [row for row in error_rows() if row.reason in named]
        for name in re.findall(r"\b[Aa]s (\w+)", text):
            if name in self._methods:
                rows += self._own_errors(self._methods[name])
        return list(dict.fromkeys(rows))


def shared_responses() -> Schema:
    """Returns the answers that many operations share, by the names they are referred to."""
    return {_key(status): failure(_rows_of(status)) for status in shared_statuses()}


def shared_statuses() -> list[int]:
    """Returns the statuses of these answers."""
    return [status for status in _SHARED if _rows_of(status)]


def failure(rows: Sequence[ErrorRow]) -> Schema:
    """Returns the answer that tells of one of these errors, which share a status."""
    status = rows[0].status
    codes = list(dict.fromkeys(row.reason for row in rows))
    answer: Schema = {
        "description": "\n".join(f"- `{row.reason}`: {row.cause} {row.remedy}" for row in rows),
        "content": {
            _JSON: {
                "schema": {
                    "allOf": [
                        ERROR,
                        {"properties": {"error_code": {"enum": codes}}},
                    ]
                },
                "example": {"detail": rows[0].detail, "error_code": codes[0]},
            }
        },
    }
    if headers := headers_of(status):
        answer["headers"] = headers
    return answer


def headers_of(status: int) -> Schema:
    """Returns the headers of an answer with this status, whatever it is that failed."""
    if status == 401:
        return {"WWW-Authenticate": _CHALLENGE}
    if status == 429:
        return {"Retry-After": _RETRY_AFTER, **_LIMITS}
    return {"Retry-After": _RETRY_AFTER} if status == 503 else {}


def is_public(method: MethodDescriptor) -> bool:
    """Says whether anybody may call the method."""
    public: bool = _options(method).Extensions[annotations_pb2.is_public]
    return public


def _or_empty(schema: Schema) -> Schema:
    # As HTML forms send what is not filled in.
    if schema.get("type") == "array":
        return {**schema, "items": _or_empty(schema["items"])}
    return {"anyOf": [schema, {"const": ""}]}


def _rows_of(status: int) -> list[ErrorRow]:
    return [row for row in error_rows() if row.status == status and row.reason not in _NOT_OF_REST]


def _key(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def _options(method: MethodDescriptor) -> MethodOptions:
    return MethodOptions.FromString(method.GetOptions().SerializeToString())


def _field_of(method: MethodDescriptor, text: TextField) -> FieldDescriptor:
    descriptor = method.input_type
    for step in text.path[:-1]:
        nested = descriptor.fields_by_name[step].message_type
        assert nested is not None  # noqa: S101 - only messages are stepped through
        descriptor = nested
    return descriptor.fields_by_name[text.path[-1]]

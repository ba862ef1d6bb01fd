"""What the document says of what is served beside the transcoded methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from aitbc_server.rest.openapi.operations import API_KEY, ERROR, headers_of
from aitbc_server.rest.openapi.schemas import Schema

JSON = "application/json"
# Where OpenAI's clients put their key; every other call takes it there too.
BEARER = "Bearer"
# The security of operations that anybody may call.
PUBLIC: tuple[Schema, ...] = ()


class Contents(NamedTuple):
    """Path items by path, and the schemas that they refer to."""

    paths: Schema
    schemas: Schema


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the API."""

    # Name of its operations' tag.
    name: str
    description: str
    # Made when a document is asked for, which is seldom.
    contents: Callable[[], Contents]


def get(
    part: str,
    operation_id: str,
    summary: str,
    answers: Schema,
    *,
    description: str = "",
    parameters: Sequence[Schema] = (),
    security: Sequence[Schema] | None = None,
) -> Schema:
    """Returns the path item of a path that can only be read."""
    operation: Schema = {"operationId": operation_id, "tags": [part], "summary": summary}
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = list(parameters)
    operation["responses"] = answers
    if security is not None:
        operation["security"] = list(security)
    return {"get": operation}


def success(description: str, media_type: str, schema: Schema) -> Schema:
    """Returns the answer of a success with one form."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def failures(statuses: Iterable[int], schema: Schema = ERROR) -> Schema:
    """Returns the answers of failures that need no more words than their statuses have."""
    answers: Schema = {}
    for status in statuses:
        answer: Schema = {
            "description": f"{HTTPStatus(status).phrase}.",
            "content": {JSON: {"schema": schema}},
        }
        if headers := headers_of(status):
            answer["headers"] = headers
        answers[str(status)] = answer
    return answers


def joined(one: Schema, other: Schema) -> Schema:
    """Returns a path item that two parts have, each for its own clients."""
    item = one | other
    for method in one.keys() & other.keys():
        item[method] = _both(one[method], other[method])
    return item


def _both(one: Schema, other: Schema) -> Schema:
    parameters = {(told["in"], told["name"]): told for told in one.get("parameters", ())}
    parameters |= {(told["in"], told["name"]): told for told in other.get("parameters", ())}
    answers = {**one["responses"], **other["responses"]}
    for status in one["responses"].keys() & other["responses"].keys():
        answers[status] = _either(one["responses"][status], other["responses"][status])
    return {
        **one,
        **other,
        "tags": [*other["tags"], *one["tags"]],
        "description": f"{other['description']} {one['description']}",
        "parameters": list(parameters.values()),
        "responses": dict(sorted(answers.items())),
    }


def _either(one: Schema, other: Schema) -> Schema:
    schemas = [told["content"][JSON]["schema"] for told in (other, one)]
    headers = one.get("headers", {}) | other.get("headers", {})
    answer = {**other, "content": {JSON: {"schema": {"anyOf": schemas}}}}
    return {**answer, "headers": headers} if headers else answer


def path_parameter(name: str, description: str, schema: Schema, example: Any) -> Schema:
    """Returns a parameter in a path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


def security_schemes() -> Schema:
    """Returns the ways to send a key."""
    said = "A key that `aitbc-coordinator keys create` printed"
    return {
        API_KEY: {
            "type": "apiKey",
            "in": "header",
            "name": "X-Api-Key",
            "description": f"{said}.",
        },
        BEARER: {
            "type": "http",
            "scheme": "bearer",
            "description": f"{said}, as OpenAI's clients send theirs.",
        },
    }

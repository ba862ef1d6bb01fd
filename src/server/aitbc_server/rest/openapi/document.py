"""The whole OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import import_module, resources

from google.protobuf.descriptor import MethodDescriptor

from aitbc_server import __version__
from aitbc_server.rest.openapi.comments import Comments, packaged_comments
from aitbc_server.rest.openapi.operations import API_KEY, Operations, shared_responses
from aitbc_server.rest.openapi.part import BEARER, Part, joined, security_schemes
from aitbc_server.rest.openapi.schemas import Schema, Schemas
from aitbc_server.rest.route import Route, routes

_DESCRIPTION = """\
Submit LLM inference jobs, follow them, and work on them as a miner.

Every path is served below `/` and, the same, below `/api`. Bodies are JSON objects in UTF-8. Names
are in snake_case, and requests may use lowerCamelCase; an unknown name is an error. A field that is
not set is absent from responses, but a list or map at the top of a response is always there, `[]`
or `{}` when empty; null in a request stands for an absent field. Times are RFC 3339 in UTC. Every
error is `{"detail", "error_code"}`: `detail` is for people and may change, `error_code` is for
programs and does not. Every answer has an `X-Request-Id`: the caller's own, if it sent one.

The same methods are served over gRPC, package `aitbc.v1`, which also has the stream that miners
hold."""
_ERROR: Schema = {
    "type": "object",
    "description": "What every call answers that does not succeed.",
    "properties": {
        "detail": {"type": "string", "description": "Sentence for people."},
        "error_code": {"type": "string", "description": "UPPER_SNAKE reason, for programs."},
    },
    "required": ["detail", "error_code"],
    "additionalProperties": False,
}
# OpenAPI 3.1 has no words for others.
_DESCRIBABLE = frozenset({"GET", "PUT", "POST", "DELETE", "PATCH"})
_VARIABLE = re.compile(r"\{([A-Za-z_][\w.]*)(=[^{}]*)?\}")


def document(
    methods: Sequence[MethodDescriptor],
    *,
    is_key_required: bool,
    parts: Iterable[Part] = (),
    servers: Iterable[str] = ("/", "/api"),
    comments: Comments | None = None,
) -> Schema:
    """Returns the document of these methods. Raises ValueError for an HTTP rule that cannot work.

    `is_key_required`: whether calls without a key are refused, but for those to public methods.
    `parts`: what is served beside the methods.
    """
    comments = comments or packaged_comments()
    every = [route for route in routes(methods) if route.http_method in _DESCRIBABLE]
    schemas = Schemas(comments, every)
    operations = Operations(schemas, comments, methods)
    paths: Schema = {}
    for route in every:
        item = paths.setdefault(_VARIABLE.sub(r"{\1}", route.path), {})
        item[route.http_method.lower()] = operations.operation(route)
    tags = _tags(every, comments)
    components = {**schemas.components, "Error": _ERROR}
    for part in parts:
        contents = part.contents()
        for path, item in contents.paths.items():
            paths[path] = joined(paths[path], item) if path in paths else item
        components |= contents.schemas
        tags.append({"name": part.name, "description": part.description})
    key: list[Schema] = [{API_KEY: []}, {BEARER: []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AITBC Coordinator API",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": url} for url in servers],
        "security": key if is_key_required else [{}, *key],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": shared_responses(),
            "securitySchemes": security_schemes(),
        },
    }


def packaged_methods() -> list[MethodDescriptor]:
    """Returns the methods of the API's own protos."""
    names = sorted(path.name for path in resources.files("aitbc.v1").iterdir())
    modules = [import_module(f"aitbc.v1.{name[:-3]}") for name in names if name.endswith("_pb2.py")]
    return [
        method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def _tags(every: Iterable[Route], comments: Comments) -> list[Schema]:
    services = dict.fromkeys(route.method.containing_service for route in every)
    return [
        {"name": service.name, "description": comments.of(service.full_name)}
        for service in services
    ]

"""The HTTP bindings of a method: from a request to its message and from its messages to a response.

Everything is read once from the descriptor, its `google.api.http` rule and our options beside it;
nothing is written for a method by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from google.api import annotations_pb2 as http_annotations_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from aitbc.v1 import annotations_pb2
from aitbc_server.api.endpoint import Messages
from aitbc_server.aside import LARGE_BYTES
from aitbc_server.bounded_json import JsonError, read_json
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.json_lists import json_pieces
from aitbc_server.rest.asgi import API_HEADERS, Pieces, Response, json_response
from aitbc_server.rest.codec import Values, decoder, encoder, response_encoder
from aitbc_server.rest.errors import InvalidJson
from aitbc_server.rest.fields import (
    TextField,
    TextFields,
    header_fields,
    set_from_headers,
    set_from_path,
    set_from_query,
    text_fields,
)
from aitbc_server.rest.router import Router
from aitbc_server.rest.stream import Dialect, Event, EventResponse
from aitbc_server.rest.table import Table, table_of
from aitbc_server.rest.template import Template, TemplateError, parse

# Body of a rule whose whole message comes from the request body.
_WHOLE = "*"
# Query parameter that chooses between two methods of one binding.
_CHOICE = b"stream"
_CHOICES = {b"true": True, b"1": True, b"false": False, b"0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One binding of one method."""

    method: MethodDescriptor
    http_method: str
    # The path template, as the rule writes it.
    path: str
    # The method that streams and has the same binding: `stream=true` in the query chooses it.
    streamed: Route | None = None
    # Whether the HTTP body is read at all.
    has_body: bool
    # Whether it counts among no limit of its callers.
    is_unlimited: bool
    # Field that the body fills; empty where it fills the whole message, or none.
    body_field: str
    path_fields: Sequence[TextField]
    query_fields: TextFields
    header_fields: Mapping[str, TextField]
    # Field that is the whole HTTP body of a success; empty where the message is.
    response_field: str
    # aitbc.v1.HttpSuccess, with its defaults filled in.
    status: int
    empty_status: int
    existing_field: str
    # The table that the response is, which is also written as CSV.
    table: Table | None
    _request_class: type[Message]
    _decode: Callable[[Any], Values]
    _encode: Callable[[Message], dict[str, Any]]
    # aitbc.v1.HttpEvents.
    _event_field: str
    _id_field: str

    def chosen_by(self, query: bytes) -> tuple[Route, bytes]:
        """Returns the route that the query chooses, and what is left of the query.

        Raises InvalidArgument.
        """
        if self.streamed is None or b"stream" not in query:
            return self, query
        parts = query.split(b"&")
        choices = [part for part in parts if part.partition(b"=")[0] == _CHOICE]
        if not choices:
            return self, query
        choice = _CHOICES.get(choices[0].partition(b"=")[2].lower())
        if choice is None or len(choices) > 1:
            raise InvalidArgument("stream", "must be true or false")
        rest = b"&".join(part for part in parts if part not in choices)
        return (self.streamed if choice else self), rest

    def request(
        self, captures: Sequence[str], query: bytes, headers: Mapping[str, str], body: bytes
    ) -> Message:
        """Returns the request message. Raises InvalidArgument or InvalidJson."""
        values = self._decode_body(body) if self.has_body else {}
        if query:
            set_from_query(values, self.query_fields, query)
        if captures:
            set_from_path(values, self.path_fields, captures)
        if self.header_fields:
            # A client that reconnects repeats its query, and has a newer Last-Event-ID.
            set_from_headers(values, self.header_fields, headers, may_differ=not self.has_body)
        return self._request_class(**values)

    def response(self, message: Message, request: Message, headers: Mapping[str, str]) -> Response:
        """Returns the HTTP response of a success."""
        if self.table is not None and self.table.is_asked(request, headers):
            return self.table.response(message)
        if self.empty_status and not message.ListFields():
            return Response(self.empty_status, API_HEADERS)
        data = self._encode(message)
        existing = self.existing_field
        status = 200 if existing and message.HasField(existing) else self.status
        body = data.get(self.response_field) if self.response_field else data
        if message.ByteSize() > LARGE_BYTES:
            return json_response(status, Pieces(json_pieces(body)))
        return json_response(status, orjson.dumps(body))

    def stream(self, messages: Messages, dialect: Dialect) -> EventResponse:
        """Returns the HTTP response of a stream."""
        return EventResponse(
            messages=messages,
            event=self._event,
            dialect=dialect,
            status=self.status,
            empty_status=self.empty_status,
            where=self.method.full_name,
        )

    def _event(self, message: Message) -> Event:
        data = self._encode(message)
        name = str(data.get(self._event_field, "")) if self._event_field else ""
        event_id = str(data.get(self._id_field, "")) if self._id_field else ""
        return Event(data, name, event_id)

    def _decode_body(self, body: bytes) -> Values:
        try:
            data = read_json(body) if body else {}
        except JsonError as error:
            raise InvalidJson(f"the body {error}") from None
        if self.body_field:
            return self._decode({self.body_field: data})
        if type(data) is not dict:
            raise InvalidJson("the body must be a JSON object")
        return self._decode(data)


def compile_routes(methods: Iterable[MethodDescriptor]) -> Router[Route]:
    """Returns the router to all routes of the methods.

    Raises ValueError for a binding that cannot work.
    """
    router: Router[Route] = Router()
    for route in routes(methods):
        router.add(route.http_method, parse(route.path), route)
    return router


def routes(methods: Iterable[MethodDescriptor]) -> Iterator[Route]:
    """Yields every `google.api.http` binding of the methods, those of two that share one once.

    Raises ValueError for a binding that cannot work.
    """
    bindings = [binding for method in methods for binding in _bindings(method)]
    streams = {
        (route.http_method, route.path): route
        for route in bindings
        if route.method.server_streaming
    }
    for route in bindings:
        if not route.method.server_streaming:
            yield replace(route, streamed=streams.pop((route.http_method, route.path), None))
    yield from streams.values()


def _bindings(method: MethodDescriptor) -> Iterator[Route]:
    if method.client_streaming:
        return
    # Parsed again: a method of another descriptor pool holds the options as unknown bytes.
    options = MethodOptions.FromString(method.GetOptions().SerializeToString())
    if options.HasExtension(http_annotations_pb2.http):
        rule = options.Extensions[http_annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            yield _route(method, binding, options)


def _pattern(method: MethodDescriptor, rule: Any) -> tuple[str, str]:
    pattern = rule.WhichOneof("pattern")
    if pattern == "custom":
        return rule.custom.kind, rule.custom.path
    if pattern is None:
        raise ValueError(f"{method.full_name} has an HTTP rule without a pattern")
    return pattern.upper(), getattr(rule, pattern)


def _route(method: MethodDescriptor, rule: Any, options: MethodOptions) -> Route:
    http_method, path = _pattern(method, rule)
    success = options.Extensions[annotations_pb2.http_success]
    # An event tells what is new: of it, empty lists are absent as everything else is.
    encode_of = encoder if method.server_streaming else response_encoder
    events = options.Extensions[annotations_pb2.http_events]
    descriptor = method.input_type
    body_field = "" if rule.body == _WHOLE else rule.body
    _require_field(descriptor, body_field)
    _require_field(method.output_type, rule.response_body)
    for name in (success.existing_field, events.event_field, events.id_field):
        _require_field(method.output_type, name)
    fields = text_fields(descriptor)
    path_fields = _path_fields(method, parse(path), fields)
    return Route(
        method=method,
        http_method=http_method,
        path=path,
        has_body=bool(rule.body),
        is_unlimited=options.Extensions[annotations_pb2.is_unlimited],
        body_field=body_field,
        path_fields=path_fields,
        query_fields=_query_fields(fields, rule.body, path_fields),
        header_fields=header_fields(descriptor),
        response_field=rule.response_body,
        status=success.status or 200,
        empty_status=success.empty_status,
        existing_field=success.existing_field,
        table=table_of(method, options),
        _request_class=message_factory.GetMessageClass(descriptor),
        _decode=decoder(descriptor),
        _encode=encode_of(method.output_type),
        _event_field=events.event_field,
        _id_field=events.id_field,
    )


def _path_fields(
    method: MethodDescriptor, template: Template, fields: TextFields
) -> tuple[TextField, ...]:
    found = []
    for variable in template.variables:
        name = ".".join(variable.field_path)
        field = fields.get(name)
        if field is None or field.is_repeated:
            raise TemplateError(f"{method.full_name}: {name} takes no text")
        found.append(field)
    return tuple(found)


def _query_fields(fields: TextFields, body: str, path_fields: Sequence[TextField]) -> TextFields:
    # A field has one place: what the path or the body gives is no query parameter.
    if body == _WHOLE:
        return {}
    bound = {field.path for field in path_fields}
    return {
        name: field
        for name, field in fields.items()
        if field.path not in bound and field.path[0] != body
    }


def _require_field(descriptor: Descriptor, name: str) -> None:
    if name and name not in descriptor.fields_by_name:
        raise ValueError(f"{descriptor.full_name} has no field {name}")

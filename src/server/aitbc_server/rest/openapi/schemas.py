"""Messages as JSON Schemas (2020-12): what the codec reads and writes and the validation accepts.

One schema serves a message in requests and in responses. A message that any request holds takes
null for what may be absent, and nothing unknown; one that only responses hold stays open, so that
older clients live with new fields. Lists and maps are required where the message is a whole
response.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import MessageOptions

from aitbc.v1 import annotations_pb2
from aitbc_server.api.validation import (
    WORDS,
    at_least_one,
    exactly_one,
    is_required,
    rules_of,
)
from aitbc_server.rest.codec import always_there, map_entry
from aitbc_server.rest.openapi.comments import Comments
from aitbc_server.rest.route import Route
from aitbc_server.rest.values import INTEGERS, is_ordinary, short_names

Schema = dict[str, Any]

_PACKAGE = "aitbc.v1."
_NULL = {"type": "null"}
# Strings that are checked hold no NUL.
_NO_NUL = r"^[^\u0000]*$"
_BASE64 = r"^([A-Za-z0-9+/_-]{4})*([A-Za-z0-9+/_-]{2}(==)?|[A-Za-z0-9+/_-]{3}=?)?$"
_DURATION = r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"
# 64-bit integers that cannot go wrong as text; the longest ones are better sent as numbers.
_BIG_INTEGER = r"^-?[0-9]{1,18}$"
# Messages with a JSON form of their own.
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": _DURATION},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
}


class Schemas:
    """Makes schemas, and keeps those that others refer to."""

    def __init__(self, comments: Comments, routes: Sequence[Route]) -> None:
        """`routes`: those whose messages are described."""
        self.components: dict[str, Schema] = {}
        self._comments = comments
        bodies = (route.method.input_type for route in routes if route.has_body)
        self._in_requests = _with_held(bodies)
        # Messages that are a whole response, and nothing else.
        self._responses = _only_responses(routes)

    def message(self, descriptor: Descriptor) -> Schema:
        """Returns a reference to the schema of a message."""
        if not is_ordinary(descriptor):
            return _WELL_KNOWN.get(descriptor.full_name, {})
        name = descriptor.full_name.removeprefix(_PACKAGE)
        if name not in self.components:
            # Entered before its fields are made, because a message may contain itself.
            self.components[name] = {}
            self.components[name].update(self.object(descriptor))
        return _reference(name)

    def response(self, descriptor: Descriptor) -> Schema:
        """Returns the schema of a message that is a whole response."""
        schema = self.message(descriptor)
        required = [name for name, _ in always_there(descriptor)]
        if not required or descriptor in self._responses:
            return schema
        return {"allOf": [schema, {"required": required}]}

    def object(self, descriptor: Descriptor, without: Collection[str] = ()) -> Schema:
        """Returns the schema of a message, without some of its fields."""
        fields = [field for field in descriptor.fields if field.name not in without]
        in_request = descriptor in self._in_requests
        schema: Schema = {"type": "object"}
        if comment := self._comments.description(descriptor.full_name):
            schema["description"] = comment
        schema["properties"] = {
            field.name: self._property(field, is_nullable=in_request and not is_required(field))
            for field in fields
        }
        required = [field.name for field in fields if is_required(field)]
        if descriptor in self._responses:
            required += [name for name, _ in always_there(descriptor)]
        if required:
            schema["required"] = required
        if in_request:
            schema["additionalProperties"] = False
        if names := exactly_one(descriptor):
            members = [descriptor.fields_by_name[name] for name in names]
            schema["oneOf"] = [_only(field, members) for field in members]
        if paths := at_least_one(descriptor):
            schema["anyOf"] = [_with(descriptor, path.split(".")) for path in paths]
        if example := {k: v for k, v in example_of(descriptor).items() if k not in without}:
            schema["examples"] = [example]
        return schema

    def parameter(self, field: FieldDescriptor) -> Schema:
        """Returns the schema of a field that the path, the query or a header fills."""
        return self._field(field)

    def _property(self, field: FieldDescriptor, *, is_nullable: bool) -> Schema:
        schema = self._field(field)
        if is_nullable:
            schema = _nullable(schema)
        comment = self._comments.description(field.full_name)
        rules = rules_of(field)
        if rules is not None and rules.max_bytes:
            # JSON Schema has no keyword for it: `maxLength` counts characters.
            comment = f"{comment} At most {rules.max_bytes:,} bytes of UTF-8.".strip()
        return {**schema, "description": comment} if comment else schema

    def _field(self, field: FieldDescriptor) -> Schema:
        if entry := map_entry(field):
            value = entry.fields_by_name["value"]
            entries: Schema = {"type": "object", "additionalProperties": self._one(value)}
            if (rules := rules_of(field)) is not None and rules.max_items:
                entries["maxProperties"] = rules.max_items
            return entries
        if not field.is_repeated:
            return self._one(field)
        schema: Schema = {"type": "array", "items": self._one(field)}
        if is_required(field):
            schema["minItems"] = 1
        if (rules := rules_of(field)) is not None:
            if rules.max_items:
                schema["maxItems"] = rules.max_items
            if rules.without:
                unset = {"enum": [None, ""]}
                schema["items"] = {
                    "allOf": [
                        schema["items"],
                        {"properties": dict.fromkeys(rules.without, unset)},
                    ]
                }
        return schema

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_STRING:
            return _string(field)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return bytes_schema(rules_of(field))
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return {"type": "boolean"}
        return _number(field, takes_text=field.containing_type in self._in_requests)

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = enum.full_name.removeprefix(_PACKAGE)
        names = short_names(enum)
        lines = [self._comments.description(enum.full_name), ""]
        for number, short in names.items():
            value = enum.values_by_number[number]
            lines.append(f"- `{short}`: {self._comments.of(f'{enum.full_name}.{value.name}')}")
        self.components[name] = {
            "type": "string",
            "enum": list(names.values()),
            "description": "\n".join(lines).strip(),
        }
        return _reference(name)


def _only_responses(routes: Sequence[Route]) -> set[Descriptor]:
    """Returns the messages that are whole responses and stand nowhere else."""
    responses: set[Descriptor] = set()
    others: set[Descriptor] = set()
    for route in routes:
        method = route.method
        others.add(method.input_type)
        (others if method.server_streaming else responses).add(method.output_type)
    held = {one for message in _with_held(responses | others) for one in _held_by(message)}
    return responses - others - held


def _with_held(messages: Iterable[Descriptor]) -> set[Descriptor]:
    """Returns the messages and all that they hold, however deep."""
    found: set[Descriptor] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message not in found and is_ordinary(message):
            found.add(message)
            waiting += _held_by(message)
    return found


def _held_by(message: Descriptor) -> Iterator[Descriptor]:
    for field in message.fields:
        entry = map_entry(field)
        held = entry.fields_by_name["value"].message_type if entry else field.message_type
        if held is not None:
            yield held


def example_of(descriptor: Descriptor) -> dict[str, Any]:
    """Returns the example of a message, made of those of the messages it holds if it has none."""
    options = MessageOptions.FromString(descriptor.GetOptions().SerializeToString())
    if text := options.Extensions[annotations_pb2.example]:
        example: dict[str, Any] = orjson.loads(text)
        return example
    found: dict[str, Any] = {}
    for field in descriptor.fields:
        nested = field.message_type
        if nested is None or map_entry(field) or nested is descriptor:
            continue
        if part := example_of(nested):
            found[field.name] = [part] if field.is_repeated else part
    return found


def _string(field: FieldDescriptor) -> Schema:
    rules = rules_of(field)
    schema: Schema = {"type": "string"}
    if is_required(field) and not field.has_presence and not field.is_repeated:
        schema |= {"minLength": 1, "pattern": _NO_NUL}
    if rules is None:
        return schema
    # Without presence an empty text is an absent one, which is valid where none is required.
    may_be_empty = not (is_required(field) or field.has_presence or field.is_repeated)
    if WORDS.fullmatch(rules.pattern):
        words = rules.pattern.split("|")
        return {"type": "string", "enum": [*words, ""] if may_be_empty else words}
    if rules.is_date:
        day = {"type": "string", "format": "date"}
        return {"anyOf": [day, {"const": ""}]} if may_be_empty else day
    if rules.max_length:
        schema["maxLength"] = rules.max_length
    schema["pattern"] = _NO_NUL
    if rules.pattern:
        schema["pattern"] = f"^(?:{_ecma(rules.pattern)}){'?' if may_be_empty else ''}$"
    return schema


def _ecma(pattern: str) -> str:
    return re.sub(r"\\x([0-9A-Fa-f]{2})", r"\\u00\1", pattern)


def _number(field: FieldDescriptor, *, takes_text: bool) -> Schema:
    rules = rules_of(field)
    bounds = INTEGERS.get(field.cpp_type)
    is_big = bounds is not None and bounds[1] > 2**53
    schema: Schema = {"type": "number"}
    if bounds is not None:
        schema = {"type": "integer", "minimum": bounds[0], "maximum": bounds[1]}
    if rules is not None:
        for name, keyword in (
            ("min", "minimum"),
            ("max", "maximum"),
            ("above", "exclusiveMinimum"),
        ):
            if rules.HasField(name):
                bound = getattr(rules, name)
                schema[keyword] = int(bound) if bound.is_integer() else bound
    if is_big and takes_text and rules is None:
        return {"anyOf": [schema, {"type": "string", "pattern": _BIG_INTEGER}]}
    return schema


def _nullable(schema: Schema) -> Schema:
    if not isinstance(schema.get("type"), str):
        return {"anyOf": [*schema["anyOf"], _NULL]} if "anyOf" in schema else _or_null(schema)
    schema = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]} if schema else schema


def bytes_schema(rules: Any) -> Schema:
    """Returns the schema of bytes in Base64, in either alphabet, padded or not."""
    pattern = _BASE64
    if rules is not None and rules.bytes:
        threes, rest = divmod(rules.bytes, 3)
        padding = ("", "(==)?", "=?")[rest]
        count = threes * 4 + (0, 2, 3)[rest]
        # Those of the last digit's bits that mean nothing are zero.
        last = ("[A-Za-z0-9+/_-]", "[AQgw]", "[AEIMQUYcgkosw048]")[rest]
        pattern = f"^([A-Za-z0-9+/_-]{{{count - 1}}}{last}{padding})?$"
    return {"type": "string", "contentEncoding": "base64", "pattern": pattern}


def _with(descriptor: Descriptor, path: Sequence[str]) -> Schema:
    """Returns the schema of an object in which the field at this path is set."""
    name, *below = path
    field = descriptor.fields_by_name[name]
    held = _present(field)
    if below and field.message_type is not None:
        held |= _with(field.message_type, below)
    return {"required": [name], "properties": {name: held}}


def _only(field: FieldDescriptor, members: Iterable[FieldDescriptor]) -> Schema:
    """Returns the schema of an object in which this member is set and the others are not."""
    unset = {
        other.name: {"type": ["array", "null"], "maxItems": 0} if other.is_repeated else _NULL
        for other in members
        if other is not field
    }
    return {"required": [field.name], "properties": {field.name: _present(field), **unset}}


def _present(field: FieldDescriptor) -> Schema:
    if field.is_repeated:
        return {"type": "array", "minItems": 1}
    if field.message_type is not None:
        return {"type": "object"}
    return {"not": _NULL} if field.has_presence else {"type": "string", "minLength": 1}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}

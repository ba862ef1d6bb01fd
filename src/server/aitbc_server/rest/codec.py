"""Messages in our JSON dialect, compiled once for each message type.

Names are in snake_case; lowerCamelCase is read too. Enums are their value in lower case without the
type's prefix, times RFC 3339 in UTC, 64-bit integers numbers (read from decimal strings too), bytes
Base64. What is not set is absent, and null reads as absent; a field with presence is written even
when it is zero or empty. Lists and maps at the top of a response are written even when they are
empty: code that goes over them need not ask whether they are there. `google.protobuf.json_format`
does the same at four times the cost. Another form of JSON is another `Form` of the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from aitbc_server.api.validation import below, rules_of, too_many
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.json_lists import json_list
from aitbc_server.rest.values import (
    Decode,
    Encode,
    Parse,
    are_plain,
    decode_of,
    encode_of,
    is_ordinary,
    parse_of,
)

# A message as the keyword arguments of its constructor, with dictionaries for nested messages.
Values = dict[str, Any]

# Items that are written in parts.
_MANY = 256
# Longest part of an unknown name that an error repeats.
_MAX_NAME = 100


class Form(NamedTuple):
    """What one form of JSON has of its own."""

    # Name of a field when it is written.
    name_of: Callable[[FieldDescriptor], str]
    # How one value of a field, which is no ordinary message, is written and read.
    encode_of: Callable[[FieldDescriptor], Encode]
    decode_of: Callable[[FieldDescriptor], Decode]


OURS = Form(lambda field: field.name, encode_of, decode_of)


def encoder(descriptor: Descriptor, form: Form = OURS) -> Callable[[Message], dict[str, Any]]:
    """Returns the function from a message to what `orjson.dumps` takes."""
    return _Encoder(descriptor, {}, form)


def response_encoder(descriptor: Descriptor) -> Callable[[Message], dict[str, Any]]:
    """Returns the same for a message that is a whole response: it has all its lists and maps."""
    encode = encoder(descriptor)
    always = always_there(descriptor)
    if not always:
        return encode

    def encode_response(message: Message) -> dict[str, Any]:
        data = encode(message)
        for name, empty in always:
            if name not in data:
                data[name] = empty()
        return data

    return encode_response


def always_there(descriptor: Descriptor) -> Sequence[tuple[str, Callable[[], Any]]]:
    """Returns the lists and maps of a response: each name, and what makes an empty one."""
    return tuple(
        (field.name, dict if map_entry(field) else list)
        for field in descriptor.fields
        if field.is_repeated
    )


def decoder(descriptor: Descriptor, form: Form = OURS) -> Callable[[Any], Values]:
    """Returns the function from a parsed JSON object to the values of a message.

    It raises InvalidArgument with the path of the first field that is wrong, and nothing else.
    """
    return _Decoder(descriptor, {}, form)


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """Returns the type of the entries where the repeated field is a map."""
    message_type = field.message_type
    if message_type is None or not message_type.GetOptions().map_entry:
        return None
    return message_type


class _Encoder:
    __slots__ = ("_fields",)

    def __init__(
        self, descriptor: Descriptor, known: dict[Descriptor, _Encoder], form: Form
    ) -> None:
        # Entered before its fields are compiled, because a message may contain itself.
        known[descriptor] = self
        self._fields = {
            field: (form.name_of(field), _field_encode(field, known, form))
            for field in descriptor.fields
        }

    def __call__(self, message: Message) -> dict[str, Any]:
        fields = self._fields
        data = {}
        for field, value in message.ListFields():
            name, encode = fields[field]
            if encode is not None:
                value = encode(value)
                if value is None:
                    continue  # an enum with presence that holds "unspecified"
            data[name] = value
        return data


def _field_encode(field: FieldDescriptor, known: dict[Descriptor, _Encoder], form: Form) -> Encode:
    if entry := map_entry(field):
        return _encode_map(_field_encode(entry.fields_by_name["value"], known, form))
    message_type = field.message_type
    encode: Encode
    if message_type is not None and is_ordinary(message_type):
        encode = known.get(message_type) or _Encoder(message_type, known, form)
    else:
        encode = form.encode_of(field)
    if not field.is_repeated:
        return encode
    # Repeated fields are containers of protobuf's own, which orjson does not take.
    return _encode_plain if encode is None else _encode_each(encode)


def _encode_plain(items: Sequence[Any]) -> Any:
    # A vector may have as many numbers.
    return list(items) if len(items) < _MANY else json_list(items)


def _encode_each(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    # Of what a message may hold by the hundred thousand, never all as dictionaries.
    return lambda items: (
        [encode(item) for item in items] if len(items) < _MANY else json_list(map(encode, items))
    )


def _encode_map(encode: Encode) -> Callable[[Any], Any]:
    def encode_entries(entries: Mapping[Any, Any]) -> dict[str, Any]:
        # Read by key: values() of a map of messages is not what its items hold.
        return {
            _map_key(key): entries[key] if encode is None else encode(entries[key])
            for key in entries
        }

    return encode_entries


def _map_key(key: Any) -> str:
    return str(key).lower() if type(key) is bool else str(key)


class _Decoder:
    __slots__ = ("_fields", "_oneofs")

    def __init__(
        self, descriptor: Descriptor, known: dict[Descriptor, _Decoder], form: Form
    ) -> None:
        known[descriptor] = self
        # By both names of each field.
        self._fields: dict[str, tuple[str, Decode]] = {}
        for field in descriptor.fields:
            entry = (field.name, _field_decode(field, known, form))
            self._fields |= {field.name: entry, field.json_name: entry}
        # The synthetic oneof of an optional field has one member, and needs no check.
        self._oneofs = tuple(
            tuple(field.name for field in oneof.fields)
            for oneof in descriptor.oneofs
            if len(oneof.fields) > 1
        )

    def __call__(self, data: Any) -> Values:
        if type(data) is not dict:
            raise InvalidArgument("", "must be an object")
        fields = self._fields
        values: Values = {}
        for key, value in data.items():
            entry = fields.get(key)
            if entry is None:
                raise self._unknown(key)
            if value is None:
                continue
            name, decode = entry
            if name in values:
                raise InvalidArgument(name, "is given twice, in snake_case and in camelCase")
            try:
                values[name] = decode(value)
            except InvalidArgument as error:
                raise below(name, error) from None
        for members in self._oneofs:
            given = [name for name in members if name in values]
            if len(given) > 1:
                raise InvalidArgument(given[1], f"cannot be given together with {given[0]}")
        return values

    def _unknown(self, key: str) -> InvalidArgument:
        key = key[:_MAX_NAME]
        similar = difflib.get_close_matches(key, self._fields, n=1)
        return InvalidArgument(
            key, "unknown field" + (f"; did you mean {similar[0]}?" if similar else "")
        )


def _field_decode(field: FieldDescriptor, known: dict[Descriptor, _Decoder], form: Form) -> Decode:
    rules = rules_of(field)
    most = rules.max_items if rules is not None else 0
    if entry := map_entry(field):
        parts = entry.fields_by_name
        return _decode_map(parts["key"], _field_decode(parts["value"], known, form), most)
    message_type = field.message_type
    decode: Decode
    if message_type is not None and is_ordinary(message_type):
        decode = known.get(message_type) or _Decoder(message_type, known, form)
    else:
        decode = form.decode_of(field)
    return _decode_each(decode, most, are_plain(field)) if field.is_repeated else decode


def _decode_each(decode: Decode, most: int, are_right: Callable[[list[Any]], bool]) -> Decode:
    def decode_items(items: Any) -> list[Any]:
        if type(items) is not list:
            raise InvalidArgument("", "must be a list")
        # Before any is converted: they may be far more.
        if most and len(items) > most:
            raise too_many(most)
        if are_right(items):
            return items
        values = []
        for item in items:
            try:
                if item is None:
                    raise InvalidArgument("", "must not be null")
                values.append(decode(item))
            except InvalidArgument as error:
                raise below(f"[{len(values)}]", error) from None
        return values

    return decode_items


def _decode_map(key_field: FieldDescriptor, decode: Decode, most: int) -> Decode:
    # Keys are integers, booleans or strings, and all these have a text form.
    parse_key = cast("Parse", parse_of(key_field))

    def decode_entries(entries: Any) -> dict[Any, Any]:
        if type(entries) is not dict:
            raise InvalidArgument("", "must be an object")
        if most and len(entries) > most:
            raise too_many(most)
        values = {}
        for key, item in entries.items():
            try:
                if item is None:
                    raise InvalidArgument("", "must not be null")
                values[parse_key(key)] = decode(item)
            except InvalidArgument as error:
                raise below(f"[{key[:_MAX_NAME]}]", error) from None
        return values

    return decode_entries

"""Messages as the documents that the REST API would have answered with."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def document_of(message: Message) -> dict[str, Any]:
    """Returns what is set: enums in lower case without prefix, times in RFC 3339."""
    return {field.name: _held(field, value) for field, value in message.ListFields()}


def _held(field: FieldDescriptor, value: Any) -> Any:
    if not field.is_repeated:
        return _value(field, value)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        held = entry.fields_by_name["value"]
        return {str(key): _value(held, value[key]) for key in value}
    return [_value(field, item) for item in value]


def _value(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Timestamp):
        time = value.ToDatetime(tzinfo=UTC)
        # Six digits of a fraction, or none: the form that is signed.
        return time.isoformat().replace("+00:00", "Z")
    if isinstance(value, Message):
        return document_of(value)
    if field.enum_type is not None:
        # The value for zero has the prefix of all others.
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return field.enum_type.values_by_number[value].name.removeprefix(prefix).lower()
    return value

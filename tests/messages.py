"""Makes up messages of any type, by its descriptor."""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False, allow_infinity=False),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}
_TIMES = {
    # Whole microseconds of the years that JSON can write.
    "google.protobuf.Timestamp": st.fixed_dictionaries(
        {
            "seconds": st.integers(-62_135_596_800, 253_402_300_799),
            "nanos": st.integers(0, 999_999).map(lambda micros: micros * 1000),
        }
    ),
    "google.protobuf.Duration": st.fixed_dictionaries({"seconds": st.integers(0, 10**9)}),
}


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Returns the strategy of messages of a type."""
    message_class = message_factory.GetMessageClass(descriptor)
    return _fields(descriptor, 3).map(lambda fields: message_class(**fields))


def _fields(descriptor: Descriptor, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    if descriptor.full_name in _TIMES:
        return _TIMES[descriptor.full_name]
    optional = {
        field.name: _value(field, depth)
        for field in descriptor.fields
        if depth or field.message_type is None
    }
    return st.fixed_dictionaries({}, optional=optional).map(
        lambda fields: _one_of(descriptor, fields)
    )


def _one_of(descriptor: Descriptor, fields: dict[str, Any]) -> dict[str, Any]:
    for oneof in descriptor.oneofs:
        given = [field.name for field in oneof.fields if field.name in fields]
        for name in given[1:]:
            del fields[name]
    return fields


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    message_type = field.message_type
    if message_type is not None and message_type.GetOptions().map_entry:
        parts = message_type.fields_by_name
        return st.dictionaries(
            _single(parts["key"], depth), _single(parts["value"], depth), max_size=3
        )
    single = _single(field, depth)
    return st.lists(single, max_size=3) if field.is_repeated else single


def _single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Struct":
            return st.just({})
        return _fields(field.message_type, depth - 1)
    if field.enum_type is not None:
        # In a list, an unspecified value is none: JSON has no word for it.
        values = [value.number for value in field.enum_type.values]
        return st.sampled_from([number for number in values if number or not field.is_repeated])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.text(max_size=20)
    return _SCALARS[field.cpp_type]

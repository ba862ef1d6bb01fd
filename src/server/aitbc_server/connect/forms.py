"""The canonical JSON of protobuf, as a form of the codec that REST has.

https://protobuf.dev/programming-guides/json: names in lowerCamelCase, enums by their full names,
64-bit integers as texts. What is read is more than that, as everywhere else: both names of a field,
the short names of enums, times without an offset. An unknown field is refused, by its name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from aitbc_server.rest import values
from aitbc_server.rest.codec import Form
from aitbc_server.rest.times import format_duration, format_timestamp
from aitbc_server.rest.values import Decode, Encode, is_time

_INT64 = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})
_FLOAT = struct.Struct("<f")
_LARGEST = (2 - 2**-23) * 2.0**127
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _encode_of(field: FieldDescriptor) -> Encode:
    if field.message_type is not None:
        return _encode_message(field.message_type)
    if field.enum_type is not None:
        names = {value.number: value.name for value in reversed(field.enum_type.values)}
        return lambda number: names.get(number, number)
    if field.cpp_type in _INT64:
        return str
    if field.cpp_type in _FLOATS:
        return _encode_float
    return values.encode_of(field)


def _encode_message(message_type: Descriptor) -> Callable[[Any], Any]:
    if not is_time(message_type):
        return json_format.MessageToDict
    if message_type.full_name == "google.protobuf.Duration":
        return format_duration
    return _encode_timestamp


def _encode_timestamp(timestamp: Any) -> str:
    # Ours are whole microseconds, which are written sooner.
    if timestamp.nanos % 1000:
        text: str = timestamp.ToJsonString()
        return text
    return format_timestamp(timestamp)


def _encode_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decode_of(field: FieldDescriptor) -> Decode:
    decode = values.decode_of(field)
    if field.enum_type is not None:
        return _or_number(field.enum_type, decode)
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        decode = _of_nearest(decode)
    if field.cpp_type in values.INTEGERS or field.cpp_type in _FLOATS:
        return _or_text(decode, takes_all=field.cpp_type in _FLOATS)
    return decode


def _of_nearest(decode: Decode) -> Decode:
    """Reads the largest numbers of 32 bits too, which are written in few digits, rounded up."""

    def decode_float(value: Any) -> Any:
        if type(value) is float and abs(value) > _LARGEST:
            with suppress(OverflowError):
                (value,) = _FLOAT.unpack(_FLOAT.pack(value))
        return decode(value)

    return decode_float


def _or_number(enum: EnumDescriptor, decode: Decode) -> Decode:
    """Reads the number of a value, too, and the name of the first one, which REST leaves out."""
    first = next((value.name for value in enum.values if value.number == 0), None)

    def decode_enum(value: Any) -> int:
        if type(value) is int and -(2**31) <= value < 2**31:
            return value
        number: int = 0 if value == first and value is not None else decode(value)
        return number

    return decode_enum


def _or_text(decode: Decode, *, takes_all: bool) -> Decode:
    """Reads a number that is written as a text, too; `takes_all`: also what is no number."""

    def decode_number(value: Any) -> Any:
        if type(value) is not str:
            return decode(value)
        if takes_all and value in _NOT_FINITE:
            return _NOT_FINITE[value]
        return decode(values.number_in(value, "must be a number"))

    return decode_number


PROTOBUF = Form(lambda field: field.json_name, _encode_of, _decode_of)

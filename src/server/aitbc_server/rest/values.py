"""Single values of the JSON dialect: what each kind of field looks like in JSON and in a URL.

Decoded values are what a message constructor takes: numbers, strings, bytes and, for messages,
dictionaries. All functions here raise InvalidArgument with an empty path; who knows the field puts
its name there.
"""

from __future__ import annotations

import binascii
import re
import sys
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest import times

# From a parsed JSON value, never None, to what the message constructor takes.
Decode = Callable[[Any], Any]
# From a text of a path, query or header to the same.
Parse = Callable[[str], Any]
# From what a message holds to what orjson takes; None leaves it as it is.
Encode = Callable[[Any], Any] | None

_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
INTEGERS: dict[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: _INT32,
    FieldDescriptor.CPPTYPE_INT64: _INT64,
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
# Largest integer up to which a double holds every one.
_EXACT = 2**53
_FLOATS: dict[int, float] = {
    FieldDescriptor.CPPTYPE_FLOAT: (2 - 2**-23) * 2.0**127,
    FieldDescriptor.CPPTYPE_DOUBLE: sys.float_info.max,
}
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_URL_SAFE = str.maketrans("-_", "+/")

_TIMESTAMP = "google.protobuf.Timestamp"
_DURATION = "google.protobuf.Duration"
# Messages with a JSON form of their own that the protobuf runtime knows. None is on a hot path.
_WELL_KNOWN = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Any", "BoolValue", "BytesValue", "DoubleValue", "FieldMask", "FloatValue", "Int32Value",
        "Int64Value", "ListValue", "StringValue", "Struct", "UInt32Value", "UInt64Value", "Value",
    )
)  # fmt: skip


def decode_of(field: FieldDescriptor) -> Decode:
    """Returns how one value of the field, which is no ordinary message, is read from JSON."""
    if field.message_type is not None:
        return _decode_message(field.message_type)
    if field.enum_type is not None:
        return _decode_enum(field.enum_type)
    if field.cpp_type in INTEGERS:
        return _decode_integer(*INTEGERS[field.cpp_type])
    if field.cpp_type in _FLOATS:
        return _decode_float(_FLOATS[field.cpp_type])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _decode_bool
    return _decode_bytes if field.type == FieldDescriptor.TYPE_BYTES else _decode_string


def are_plain(field: FieldDescriptor) -> Callable[[list[Any]], bool]:
    """Returns what says at once that all items of a list are integers which the field takes.

    There may be hundreds of thousands. Of other fields, and where one is not, it says no.
    """
    if field.cpp_type not in INTEGERS:
        return lambda items: False
    low, high = INTEGERS[field.cpp_type]
    return lambda items: set(map(type, items)) == {int} and low <= min(items) <= max(items) <= high


def encode_of(field: FieldDescriptor) -> Encode:
    """Returns how one value of the field, which is no ordinary message, is written to JSON."""
    if field.message_type is not None:
        encode: Encode = _ENCODE_TIME.get(field.message_type.full_name, _encode_well_known)
        return encode
    if field.enum_type is not None:
        names = short_names(field.enum_type)
        # A number that this side does not know yet is written as it is.
        return lambda number: names.get(number, number or None)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _encode_bytes
    return None


def parse_of(field: FieldDescriptor) -> Parse | None:
    """Returns how one value of the field is read from text; None where it has no text form."""
    if field.message_type is not None and not is_time(field.message_type):
        return None
    decode = decode_of(field)
    if field.cpp_type in INTEGERS:
        return lambda text: decode(number_in(text, "must be an integer"))
    if field.cpp_type in _FLOATS:
        return lambda text: decode(number_in(text, "must be a number"))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _parse_bool
    return decode


def is_ordinary(message_type: Descriptor) -> bool:
    """Says that the message is written as an object of its fields."""
    return message_type.full_name not in _WELL_KNOWN and not is_time(message_type)


def is_time(message_type: Descriptor) -> bool:
    """Says that the message is written as one string."""
    return message_type.full_name in {_TIMESTAMP, _DURATION}


def _wrong(problem: str) -> InvalidArgument:
    return InvalidArgument("", problem)


def _decode_string(value: Any) -> str:
    if type(value) is not str:
        raise _wrong("must be a string")
    return value


def _decode_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong("must be true or false")
    return value


def _parse_bool(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise _wrong("must be true or false")
    return value


def _decode_integer(low: int, high: int) -> Decode:
    # Numbers beyond 53 bits lose digits in many JSON libraries, which send text instead.
    takes_text = high > _EXACT

    def convert(value: Any) -> int:
        # Beyond 53 bits a float is not what was written: an integer that did not fit, for one.
        if type(value) is float and value.is_integer() and abs(value) <= _EXACT:
            return int(value)
        if takes_text and type(value) is str and _INTEGER.fullmatch(value):
            return int(value)
        raise _wrong("must be an integer")

    def decode(value: Any) -> int:
        number: int = value if type(value) is int else convert(value)
        if not low <= number <= high:
            raise _wrong(f"must be an integer from {low} to {high}")
        return number

    return decode


def _decode_float(largest: float) -> Decode:
    def decode(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise _wrong("must be a number")
        if not -largest <= value <= largest:
            raise _wrong(f"must be a number from {-largest} to {largest}")
        return float(value)

    return decode


def number_in(text: str, problem: str) -> float:
    """Returns the number that a text is. Raises InvalidArgument with this problem."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _wrong(problem)
    return float(text) if match.group(1) or match.group(2) else int(text)


def _decode_bytes(value: Any) -> bytes:
    if type(value) is str:
        text = value.translate(_URL_SAFE).rstrip("=")
        try:
            return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
        except ValueError:
            pass  # told below, as for what is no string
    raise _wrong("must be a string of Base64")


def _encode_bytes(value: bytes) -> str:
    return b64encode(value).decode()


def _decode_enum(enum: EnumDescriptor) -> Decode:
    numbers: dict[str, int] = {}
    shorts = short_names(enum)
    for value in enum.values:
        if value.number:
            short = _short_name(enum, value.name)
            numbers |= {short: value.number, short.upper(): value.number, value.name: value.number}
    problem = "must be one of " + ", ".join(shorts.values())

    def decode(value: Any) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is None:
            raise _wrong(problem)
        return number

    return decode


def short_names(enum: EnumDescriptor) -> dict[int, str]:
    """Returns the names of an enum's values as JSON has them, by number."""
    names: dict[int, str] = {}
    for value in enum.values:
        # Zero, "unspecified", is left out: it is written as an absent field. Of the aliases of a
        # number the first is its name.
        if value.number:
            names.setdefault(value.number, _short_name(enum, value.name))
    return names


def _short_name(enum: EnumDescriptor, value_name: str) -> str:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return value_name.removeprefix(prefix).lower()


def _decode_message(message_type: Descriptor) -> Decode:
    if message_type.full_name == _TIMESTAMP:
        return _decode_text(times.parse_timestamp)
    if message_type.full_name == _DURATION:
        return _decode_text(times.parse_duration)
    return _decode_well_known(message_type)


def _decode_text(parse: Parse) -> Decode:
    def decode(value: Any) -> Any:
        try:
            return parse(_decode_string(value))
        except ValueError as error:
            raise _wrong(str(error)) from None

    return decode


def _decode_well_known(message_type: Descriptor) -> Decode:
    message_class = message_factory.GetMessageClass(message_type)

    def decode(value: Any) -> Any:
        try:
            return json_format.ParseDict(value, message_class())
        except (json_format.ParseError, ValueError, TypeError):
            raise _wrong(f"must be a {message_type.name} of protobuf's JSON") from None

    return decode


def _encode_well_known(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


_ENCODE_TIME: dict[str, Callable[[Any], Any]] = {
    _TIMESTAMP: times.format_timestamp,
    _DURATION: times.format_duration,
}

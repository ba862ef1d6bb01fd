"""Makes what nobody expects out of what is expected."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

TEXTS = (
    "",
    "m",
    "llama3.2",
    "\x00",
    "\x1b]52;c;AAAA\x07",
    "\u202e\ufeff",
    "../../etc/passwd",
    "job-0",
    "http://127.0.0.1:1/",
    "'; DROP TABLE jobs; --",
    "1e400",
    "null",
    "\U0001f600" * 9,
    "x" * 5000,
)
INTEGERS = (0, 1, -1, 2, 20, 128, 255, 2**31 - 1, -(2**31), 2**31, 2**53, 2**63 - 1, -(2**63))
DOUBLES = (0.0, -0.0, 1.0, -1.0, 1e308, 5e-324, float("inf"), float("nan"))
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def message_of(rng: random.Random, descriptor: Descriptor, depth: int = 3) -> Message:
    """Returns a message of a type with some of its fields."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if rng.random() < 0.5:
            _fill(rng, message, field, depth)
    return message


def _fill(rng: random.Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    kind = field.message_type
    if kind is None:
        values = [_scalar(rng, field) for _ in range(rng.randrange(4))]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif values:
            setattr(message, field.name, values[0])
    elif depth and not kind.GetOptions().map_entry and kind.name != "Struct":
        if field.is_repeated:
            made = [message_of(rng, kind, depth - 1) for _ in range(rng.randrange(4))]
            getattr(message, field.name).extend(made)
        else:
            getattr(message, field.name).CopyFrom(message_of(rng, kind, depth - 1))


def _scalar(rng: random.Random, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 16, 32, 64)))
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return rng.choice(DOUBLES)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.enum_type is not None:
        return rng.choice([*(value.number for value in field.enum_type.values), 99])
    low, high = _LIMITS[field.cpp_type]
    return min(max(rng.choice(INTEGERS), low), high)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Returns bytes that are nearly these."""
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                del changed[at : at + rng.randrange(1, 20)]
            case 2:
                changed[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 3:
                changed[at:at] = changed[at : at + rng.randrange(1, 60)] * rng.randrange(1, 50)
            case _:
                del changed[at:]
    return bytes(changed)


def odd_json(rng: random.Random, depth: int = 3) -> Any:
    """Returns any value that JSON can have."""
    match rng.randrange(7 if depth else 4):
        case 0:
            return rng.choice(TEXTS)
        case 1:
            return rng.choice(INTEGERS)
        case 2:
            return rng.choice((None, True, False))
        case 3:
            return rng.choice((0.5, 1e308, -1.0, 5e-324))
        case 4:
            return [odd_json(rng, depth - 1) for _ in range(rng.choice((0, 1, 3)))]
        case 5:
            return [odd_json(rng, 0)] * rng.choice((100, 2000))
        case _:
            return {
                rng.choice(TEXTS)[:9]: odd_json(rng, depth - 1) for _ in range(rng.randrange(4))
            }


def mutated_json(rng: random.Random, value: Any) -> Any:
    """Returns a value that is nearly this one: something within it is another."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {key: kept for key, kept in value.items() if key != name}
        return {**value, name: mutated_json(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], mutated_json(rng, value[at]), *value[at + 1 :]]
    return odd_json(rng)

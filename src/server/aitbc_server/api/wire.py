"""What a message may be on the wire: how large, and how much in it, known before it is parsed.

A parser makes an object of every item, however small: two bytes sent became 180 bytes of memory. So
the tags of larger messages are counted first, against the rules that their protos declare.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from aitbc_server.api.validation import below, rules_of
from aitbc_server.domain.errors import InvalidArgument

_M = TypeVar("_M", bound=Message)

# Least that a request may have, for fields that only newer clients know.
_LEAST_BYTES = 1024
# For the tag and the length of a field.
_OVERHEAD_BYTES = 8
_CHARACTER_BYTES = 4
_NUMBER_BYTES = 10
# More than what matches a pattern that does not repeat anything without end.
_PATTERN_BYTES = 1024
_UNBOUNDED = re.compile(r"[*+]|,\}")
_MOST_DEPTH = 32

_TEXTS = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Bounds(NamedTuple):
    """What is counted in a message and in all that it holds."""

    most: int
    # `fields`, or only `messages`, which are what a parser makes objects of.
    kind: str
    # Smaller ones cannot hold enough to be worth counting.
    from_bytes: int


# Of a request. A batch of 1,000 jobs may use 100 fields for each. What fits into 16 KiB is at most
# 8,192 of them, which the rules refuse in the same turn as they were parsed.
REQUEST = Bounds(most=100_000, kind="fields", from_bytes=16 * 1024)


@dataclass(slots=True)
class _Field:
    name: str
    # Items that it may have; 0 where it is not a list.
    most: int
    held: Shape | None
    # Whether its items may stand in one piece.
    is_packed: bool


@dataclass(slots=True)
class Shape:
    """What the rules of a message let it be."""

    most_bytes: float = 0
    # By the tag, as it stands on the wire: fields that hold messages, or more than one value.
    fields: dict[int, _Field] = field(default_factory=dict)

    def check(self, data: bytes, bounds: Bounds = REQUEST) -> None:
        """Raises InvalidArgument for what holds too much. Finds not all that is malformed."""
        if len(data) >= bounds.from_bytes:
            try:
                _count(data, 0, len(data), self, bounds.most, _MOST_DEPTH, bounds)
            except IndexError:
                raise _Malformed from None


class _Malformed(Exception):
    """Bytes that are no message."""


_shapes: dict[Descriptor, Shape] = {}


def shape_of(descriptor: Any) -> Shape:
    """Returns what a message may be, compiled once."""
    known = _shapes.get(descriptor)
    if known is None:
        # Entered before it is complete, because a message may contain itself; such a one has no
        # greatest size.
        known = _shapes[descriptor] = Shape(most_bytes=math.inf)
        known.most_bytes = sum(_compile(one, known) for one in descriptor.fields)
        known.most_bytes = max(known.most_bytes, _LEAST_BYTES)
    return known


def parse(kind: type[_M], data: bytes, bounds: Bounds = REQUEST) -> _M:
    """Returns the message that the bytes are. Raises InvalidArgument."""
    try:
        shape_of(kind.DESCRIPTOR).check(data, bounds)
        return kind.FromString(data)
    except (_Malformed, DecodeError):
        raise InvalidArgument("message", f"is not a {kind.DESCRIPTOR.name}") from None


def _compile(one: FieldDescriptor, shape: Shape) -> float:
    """Enters a field into the shape, and returns how many bytes it may have."""
    rules = rules_of(one)
    held = None if one.message_type is None else shape_of(one.message_type)
    size = _size(one, rules, held) + _OVERHEAD_BYTES
    is_packed = held is None and one.type not in _TEXTS
    tag = one.number << 3 | _BYTES
    if not one.is_repeated:
        if held is not None:
            shape.fields[tag] = _Field(one.name, 0, held, is_packed=False)
        return size
    declared = 0 if rules is None else rules.max_items
    shape.fields[tag] = _Field(
        one.name, declared or (REQUEST.most if is_packed else sys.maxsize), held, is_packed
    )
    return declared * size if declared else math.inf


def _size(one: FieldDescriptor, rules: Any, held: Shape | None) -> float:
    if one.message_type is not None and not one.message_type.GetOptions().map_entry:
        return shape_of(one.message_type).most_bytes
    if held is None and one.type not in _TEXTS:
        return _NUMBER_BYTES
    if rules is None:
        return math.inf
    bounds = [rules.max_bytes, rules.max_length * _CHARACTER_BYTES, rules.bytes]
    if rules.is_date or (rules.pattern and not _UNBOUNDED.search(rules.pattern)):
        bounds.append(_PATTERN_BYTES)
    # A map's key and value are as long as its rules say each.
    parts = 1 if held is None else 2
    return parts * min((bound for bound in bounds if bound), default=math.inf)


def _count(
    data: bytes, at: int, end: int, shape: Shape, room: int, depth: int, bounds: Bounds
) -> int:
    """Counts what stands from `at` to `end`; returns the room that is left for more.

    Raises InvalidArgument and _Malformed, and IndexError at the end of the bytes.
    """
    if not depth:
        raise InvalidArgument("message", f"is nested more than {_MOST_DEPTH} levels deep")
    fields = shape.fields
    counts_fields = bounds.kind == "fields"
    items: dict[int, int] = {}
    while at < end:
        if counts_fields:
            room -= 1
            if not room:
                raise _too_many(bounds)
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = _varint(data, at - 1)
        kind = tag & 7
        if kind == _BYTES:
            length = data[at]
            at += 1
            if length > 127:
                length, at = _varint(data, at - 1)
            known = fields.get(tag)
            if known is not None:
                held, most = known.held, known.most
                if held is not None and not counts_fields:
                    room -= 1
                    if not room:
                        raise _too_many(bounds)
                if most:
                    found = items[tag] = items.get(tag, 0) + 1
                    if found > most or (known.is_packed and length > most * _NUMBER_BYTES):
                        raise InvalidArgument(known.name, f"must have at most {most} items")
                if held is not None and length:
                    if at + length > end:
                        raise _Malformed
                    try:
                        room = _count(data, at, at + length, held, room, depth - 1, bounds)
                    except InvalidArgument as error:
                        if error.field == "message":
                            raise
                        step = known.name
                        if tag in items:
                            step = f"{step}[{items[tag] - 1}]"
                        raise below(step, error) from None
            at += length
        elif kind == _VARINT:
            while data[at] > 127:
                at += 1
            at += 1
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            # Groups, which proto3 does not have, could nest.
            raise _Malformed
    if at != end:
        raise _Malformed
    return room


def _too_many(bounds: Bounds) -> InvalidArgument:
    return InvalidArgument("message", f"holds more than {bounds.most:,} {bounds.kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise _Malformed

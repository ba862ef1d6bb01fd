"""Checks requests against the rules that their protos declare, compiled once for each message.

Read are `google.api.field_behavior` (REQUIRED), `(aitbc.v1.rules)` of fields, and
`(aitbc.v1.exactly_one)` and `(aitbc.v1.at_least_one)` of messages. Beyond these, an enum holds a
value that its proto names, and a string holds no NUL, at which databases and C programs cut it.
Free text is the exception: a string without rules that may be empty is what a model wrote, and may
hold anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions, MessageOptions
from google.protobuf.message import Message

from aitbc.v1 import annotations_pb2
from aitbc_server.domain.errors import InvalidArgument

# Checks one value; raises InvalidArgument whose path is relative to the value.
_Check = Callable[[Any], None]

_NUMBERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }
)
# A pattern that only lists words, which is better told as a choice.
WORDS = re.compile(r"\w+(\|\w+)+")

_validators: dict[Descriptor, _MessageValidator] = {}


def validator(descriptor: Descriptor) -> Callable[[Message], None]:
    """Returns the check of a message, which raises InvalidArgument for the first wrong field."""
    return _message_validator(descriptor)


def below(step: str, error: InvalidArgument) -> InvalidArgument:
    """Returns the error with its path put below a field name or an `[index]`."""
    path = error.field
    separator = "." if path and not path.startswith("[") else ""
    return InvalidArgument(f"{step}{separator}{path}", error.problem)


def _message_validator(descriptor: Descriptor) -> _MessageValidator:
    known = _validators.get(descriptor)
    if known is None:
        # Entered before its fields are compiled, because a message may contain itself.
        known = _validators[descriptor] = _MessageValidator()
        known.compile(descriptor)
    return known


class _MessageValidator:
    __slots__ = ("_at_least_one", "_checks", "_exactly_one", "_required", "accepts_everything")

    def __init__(self) -> None:
        self._checks: dict[FieldDescriptor, _Check] = {}
        # Names of the required fields, and whether their absence differs from their zero value.
        self._required: list[tuple[str, bool]] = []
        # Fields of which one must be set.
        self._exactly_one: tuple[FieldDescriptor, ...] = ()
        # Paths of fields of which at least one must be set.
        self._at_least_one: tuple[str, ...] = ()
        self.accepts_everything = False

    def compile(self, descriptor: Descriptor) -> None:
        for field in descriptor.fields:
            if is_required(field):
                self._required.append((field.name, field.has_presence))
            check = _field_check(field)
            if check is not None:
                self._checks[field] = check
        self._exactly_one = tuple(descriptor.fields_by_name[n] for n in exactly_one(descriptor))
        self._at_least_one = at_least_one(descriptor)
        self.accepts_everything = not (
            self._checks or self._required or self._exactly_one or self._at_least_one
        )

    def __call__(self, message: Message) -> None:
        for name, has_presence in self._required:
            if not (message.HasField(name) if has_presence else getattr(message, name)):
                raise InvalidArgument(name, "is required")
        checks = self._checks
        # ListFields skips what is absent, and so costs less than a look at each field.
        fields = message.ListFields()
        if self._exactly_one:
            self._check_exactly_one([field for field, _ in fields if field in self._exactly_one])
        if self._at_least_one and not any(_holds(message, path) for path in self._at_least_one):
            raise _missing(self._at_least_one)
        for field, value in fields:
            check = checks.get(field)
            if check is not None:
                try:
                    check(value)
                except InvalidArgument as error:
                    raise below(field.name, error) from None

    def _check_exactly_one(self, given: Sequence[FieldDescriptor]) -> None:
        if len(given) == 1:
            return
        names = [field.name for field in self._exactly_one]
        if not given:
            raise _missing(names)
        raise InvalidArgument(given[1].name, f"give either {' or '.join(names)}, not both")


def exactly_one(descriptor: Descriptor) -> tuple[str, ...]:
    """Returns the names of the fields of which a message must have exactly one."""
    return tuple(_options_of(descriptor).Extensions[annotations_pb2.exactly_one].fields)


def at_least_one(descriptor: Descriptor) -> tuple[str, ...]:
    """Returns the paths of the fields of which a message must have at least one."""
    return tuple(_options_of(descriptor).Extensions[annotations_pb2.at_least_one].paths)


def _options_of(descriptor: Descriptor) -> Any:
    # Parsed again, as field options are: see `rules_of`.
    return MessageOptions.FromString(descriptor.GetOptions().SerializeToString())


def _holds(value: Any, path: str) -> bool:
    for name in path.split("."):
        value = getattr(value, name)
    return bool(value)


def _missing(names: Sequence[str]) -> InvalidArgument:
    return InvalidArgument(names[0], f"is required (or {' or '.join(names[1:])})")


def _field_check(field: FieldDescriptor) -> _Check | None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        check = _value_check(field.message_type.fields_by_name["value"], None)
        return None if check is None else _each_entry(check)
    rules = rules_of(field)
    check = _value_check(field, rules)
    if not field.is_repeated:
        return check
    if rules is not None and rules.without:
        check = _both(_without(rules.without), check)
    max_items = rules.max_items if rules is not None else 0
    return _each_item(check, max_items) if check is not None or max_items else None


def _value_check(field: FieldDescriptor, rules: Any) -> _Check | None:
    if field.message_type is not None:
        nested = _message_validator(field.message_type)
        return None if nested.accepts_everything else nested
    if field.enum_type is not None:
        return _known_value(field.enum_type)
    if field.type == FieldDescriptor.TYPE_STRING:
        if rules is not None:
            return _string(rules)
        return _no_nul if is_required(field) and not field.has_presence else None
    if rules is not None and field.cpp_type in _NUMBERS:
        return _in_range(rules)
    return None if rules is None or not rules.bytes else _sized(rules.bytes)


def _without(names: Sequence[str]) -> _Check:
    def check(message: Message) -> None:
        for name in names:
            if getattr(message, name):
                raise InvalidArgument(name, "belongs to the whole request")

    return check


def _both(first: _Check, second: _Check | None) -> _Check:
    def check(value: Any) -> None:
        first(value)
        if second is not None:
            second(value)

    return check


def _each_item(check: _Check | None, max_items: int) -> _Check:
    def check_items(items: Sequence[Any]) -> None:
        if max_items and len(items) > max_items:
            raise InvalidArgument("", f"must have at most {max_items} items")
        if check is None:
            return
        for index, item in enumerate(items):
            try:
                check(item)
            except InvalidArgument as error:
                raise below(f"[{index}]", error) from None

    return check_items


def _each_entry(check: _Check) -> _Check:
    def check_entries(entries: Mapping[Any, Any]) -> None:
        for key in entries:
            try:
                check(entries[key])
            except InvalidArgument as error:
                raise below(f"[{key}]", error) from None

    return check_entries


def _in_range(rules: Any) -> _Check:
    low = rules.min if rules.HasField("min") else -math.inf
    high = rules.max if rules.HasField("max") else math.inf
    above = rules.above if rules.HasField("above") else -math.inf

    def check(value: float) -> None:
        # Written so that NaN, which compares false with everything, fails.
        if low <= value <= high and value > above:
            return
        if not math.isfinite(value):
            problem = "must be a finite number"
        elif value <= above:
            problem = f"must be greater than {_plain(above)}"
        elif value < low:
            problem = f"must be at least {_plain(low)}"
        else:
            problem = f"must be at most {_plain(high)}"
        raise InvalidArgument("", problem)

    return check


def _sized(size: int) -> _Check:
    def check(value: bytes) -> None:
        # Empty is absent.
        if len(value) not in (0, size):
            raise InvalidArgument("", f"must be {size} bytes, or absent")

    return check


def _string(rules: Any) -> _Check:
    max_bytes = rules.max_bytes or math.inf
    max_length = rules.max_length or math.inf
    not_blank, is_date = rules.not_blank, rules.is_date
    pattern = rules.pattern
    matches = re.compile(pattern).fullmatch if pattern else None
    mismatch = f"must {rules.mismatch}" if rules.mismatch else f"must match the pattern {pattern}"
    if WORDS.fullmatch(pattern):
        mismatch = "must be one of " + ", ".join(pattern.split("|"))

    def check(value: str) -> None:
        _no_nul(value)
        # A character takes at most 4 bytes, so most strings need not be encoded to be measured.
        if len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
            raise InvalidArgument("", f"must be at most {max_bytes} bytes of UTF-8")
        if len(value) > max_length:
            raise InvalidArgument("", f"must be at most {max_length} characters long")
        if not_blank and (not value or value.isspace()):
            raise InvalidArgument("", "must not be empty")
        if matches is not None and matches(value) is None:
            raise InvalidArgument("", mismatch)
        if is_date and not _is_day(value):
            raise InvalidArgument("", "must be a day such as 2026-01-24")

    return check


def _is_day(text: str) -> bool:
    try:
        # Python reads other forms of ISO 8601 too.
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _no_nul(value: str) -> None:
    if "\0" in value:
        raise InvalidArgument("", "must not contain the NUL character")


def _known_value(enum: EnumDescriptor) -> _Check:
    known = frozenset(enum.values_by_number)
    names = ", ".join(value.name for value in enum.values if value.number)

    def check(value: int) -> None:
        if value not in known:
            raise InvalidArgument("", f"must be one of {names}")

    return check


def _plain(bound: float) -> str:
    return str(int(bound)) if bound.is_integer() else str(bound)


def _options(field: FieldDescriptor) -> Any:
    # Parsed again because a field of another descriptor pool holds our options as unknown bytes.
    return FieldOptions.FromString(field.GetOptions().SerializeToString())


def is_required(field: FieldDescriptor) -> bool:
    """Says whether a request must set the field."""
    behavior = _options(field).Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behavior


def rules_of(field: FieldDescriptor) -> Any:
    """Returns the field's aitbc.v1.Rules, or None when it has none."""
    options = _options(field)
    if not options.HasExtension(annotations_pb2.rules):
        return None
    return options.Extensions[annotations_pb2.rules]

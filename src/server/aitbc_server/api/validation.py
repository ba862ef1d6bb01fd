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

_INTEGERS = frozenset(
    (
        *(FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64),
        *(FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64),
    )
)
_NUMBERS = _INTEGERS | {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}
# A pattern that only lists words, which is better told as a choice.
WORDS = re.compile(r"\w+(\|\w+)+")

# Longest part of a key that an error repeats.
_MAX_KEY = 100

# Of a well-known type: the seconds that it may have, by its proto, and what it must be. The wire
# holds more, which neither a clock nor a database does.
_SECONDS = {
    "google.protobuf.Timestamp": (-62_135_596_800, 253_402_300_799, "a time from 0001 to 9999"),
    "google.protobuf.Duration": (-315_576_000_000, 315_576_000_000, "at most 10,000 years"),
}

_validators: dict[Descriptor, _MessageValidator] = {}


def validator(descriptor: Descriptor) -> Callable[[Message], None]:
    """Returns the check of a message, which raises InvalidArgument for the first wrong field."""
    return _message_validator(descriptor).check


def below(step: str, error: InvalidArgument) -> InvalidArgument:
    """Returns the error with its path put below a field name or an `[index]`."""
    path = error.field
    separator = "." if path and not path.startswith("[") else ""
    return InvalidArgument(f"{step}{separator}{path}", error.problem)


def too_many(most: int) -> InvalidArgument:
    """Returns the error of a list or a map with more items than it may have."""
    return InvalidArgument("", f"must have at most {most} items")


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
        self._exactly_one: dict[FieldDescriptor, None] = {}
        # Paths of fields of which at least one must be set, and what says of a message whether.
        self._at_least_one: tuple[tuple[str, Callable[[Any], bool]], ...] = ()
        self.accepts_everything = False

    def compile(self, descriptor: Descriptor) -> None:
        for field in descriptor.fields:
            if is_required(field):
                self._required.append((field.name, field.has_presence))
            check = _field_check(field)
            if check is not None:
                self._checks[field] = check
        self._exactly_one = {descriptor.fields_by_name[n]: None for n in exactly_one(descriptor)}
        self._at_least_one = tuple(
            (path, _holds(descriptor, path.split("."))) for path in at_least_one(descriptor)
        )
        is_free = not (self._required or self._exactly_one or self._at_least_one)
        if is_free and all(
            field.message_type is descriptor and rules_of(field) is None for field in self._checks
        ):
            # Nothing is checked but what it holds of its own kind, of which nothing is either.
            # Answers have hundreds of thousands of these.
            self._checks = {}
        self.accepts_everything = is_free and not self._checks

    def check(self, message: Message) -> None:
        for name, has_presence in self._required:
            if not (message.HasField(name) if has_presence else getattr(message, name)):
                raise InvalidArgument(name, "is required")
        checks = self._checks
        # ListFields skips what is absent, and so costs less than a look at each field.
        fields = message.ListFields()
        if self._exactly_one:
            given = [field for field, _ in fields if field in self._exactly_one]
            if len(given) != 1:
                raise self._not_one(given)
        if self._at_least_one:
            # Not `any`: there may be thousands of messages, each of which would make a generator.
            for _, holds in self._at_least_one:
                if holds(message):
                    break
            else:
                raise _missing([path for path, _ in self._at_least_one])
        for field, value in fields:
            check = checks.get(field)
            if check is not None:
                try:
                    check(value)
                except InvalidArgument as error:
                    raise below(field.name, error) from None

    def _not_one(self, given: Sequence[FieldDescriptor]) -> InvalidArgument:
        if not given:
            return _missing([field.name for field in self._exactly_one])
        first, second = given[0].name, given[1].name
        return InvalidArgument(second, f"give either {first} or {second}, not both")


def exactly_one(descriptor: Descriptor) -> tuple[str, ...]:
    """Returns the names of the fields of which a message must have exactly one."""
    return tuple(_options_of(descriptor).Extensions[annotations_pb2.exactly_one].fields)


def at_least_one(descriptor: Descriptor) -> tuple[str, ...]:
    """Returns the paths of the fields of which a message must have at least one."""
    return tuple(_options_of(descriptor).Extensions[annotations_pb2.at_least_one].paths)


def _options_of(descriptor: Descriptor) -> Any:
    # Parsed again, as field options are: see `rules_of`.
    return MessageOptions.FromString(descriptor.GetOptions().SerializeToString())


def _holds(descriptor: Descriptor, path: Sequence[str]) -> Callable[[Any], bool]:
    """Returns what says whether a message has a field of it, or of one that it holds."""
    name, *below = path
    field = descriptor.fields_by_name[name]
    if below and field.message_type is not None:
        held = _holds(field.message_type, below)
        return lambda message: held(getattr(message, name))
    if field.has_presence:
        return lambda message: bool(message.HasField(name))
    return lambda message: bool(getattr(message, name))


def _missing(names: Sequence[str]) -> InvalidArgument:
    *others, last = names[1:]
    alternatives = f"{', '.join(others)} or {last}" if others else last
    return InvalidArgument(names[0], f"is required (or {alternatives})")


def _field_check(field: FieldDescriptor) -> _Check | None:
    rules = rules_of(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        # Rules of texts are those of the keys, too: see _small_map.
        check = _value_check(value, rules if value.cpp_type in _NUMBERS else None)
        if rules is not None:
            return _both(_small_map(rules), None if check is None else _each_entry(check))
        return None if check is None else _each_entry(check)
    check = _value_check(field, rules)
    if not field.is_repeated:
        return check
    if rules is not None and rules.without:
        check = _both(_without(rules.without), check)
    max_items = rules.max_items if rules is not None else 0
    are_within = _are_within(rules) if check is not None and field.cpp_type in _INTEGERS else None
    return _each_item(check, max_items, are_within) if check is not None or max_items else None


def _value_check(field: FieldDescriptor, rules: Any) -> _Check | None:
    if field.message_type is not None:
        if field.message_type.full_name in _SECONDS:
            return _within(*_SECONDS[field.message_type.full_name])
        nested = _message_validator(field.message_type)
        return None if nested.accepts_everything else nested.check
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


def _each_item(
    check: _Check | None, max_items: int, are_right: Callable[[Any], bool] | None = None
) -> _Check:
    """Returns the check of a list. `are_right` may say at once that all of its items are right."""

    def check_items(items: Sequence[Any]) -> None:
        if max_items and len(items) > max_items:
            raise too_many(max_items)
        if check is None or (are_right is not None and are_right(items)):
            return
        for index, item in enumerate(items):
            try:
                check(item)
            except InvalidArgument as error:
                raise below(f"[{index}]", error) from None

    return check_items


def _are_within(rules: Any) -> Callable[[Sequence[int]], bool]:
    """Returns what says that all integers of a list, of which there may be many, are in range."""
    low = rules.min if rules.HasField("min") else None
    high = rules.max if rules.HasField("max") else None
    above = rules.above if rules.HasField("above") else None

    def are_within(items: Sequence[int]) -> bool:
        least = 0 if low is above is None else min(items)
        is_above = (low is None or least >= low) and (above is None or least > above)
        return is_above and (high is None or max(items) <= high)

    return are_within


def _small_map(rules: Any) -> _Check:
    max_items = rules.max_items or math.inf
    max_length = rules.max_length or math.inf

    def check(entries: Mapping[Any, Any]) -> None:
        if len(entries) > max_items:
            raise too_many(rules.max_items)
        for key, value in entries.items():
            for text in (key, value):
                if type(text) is str and len(text) > max_length:
                    problem = f"must be at most {max_length} characters long"
                    raise InvalidArgument(f"[{key[:_MAX_KEY]}]", problem)

    return check


def _each_entry(check: _Check) -> _Check:
    def check_entries(entries: Mapping[Any, Any]) -> None:
        for key in entries:
            try:
                check(entries[key])
            except InvalidArgument as error:
                raise below(f"[{str(key)[:_MAX_KEY]}]", error) from None

    return check_entries


def _in_range(rules: Any) -> _Check:
    low = rules.min if rules.HasField("min") else -math.inf
    high = rules.max if rules.HasField("max") else math.inf
    above = rules.above if rules.HasField("above") else -math.inf
    least = max(low, math.nextafter(above, math.inf)) if math.isfinite(above) else low

    def check(value: float) -> None:
        # Written so that NaN, which compares false with everything, fails.
        if least <= value <= high:
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
    # A character takes at most 4 bytes, so most strings need not be encoded to be measured.
    short = min(max_length, max_bytes / 4)
    is_date = rules.is_date
    pattern = rules.pattern
    matches = re.compile(pattern).fullmatch if pattern else None
    mismatch = f"must {rules.mismatch}" if rules.mismatch else f"must match the pattern {pattern}"
    if WORDS.fullmatch(pattern):
        mismatch = "must be one of " + ", ".join(pattern.split("|"))

    def check(value: str) -> None:
        if "\0" in value:
            _no_nul(value)
        if len(value) > short:
            if len(value.encode()) > max_bytes:
                raise InvalidArgument("", f"must be at most {max_bytes} bytes of UTF-8")
            if len(value) > max_length:
                raise InvalidArgument("", f"must be at most {max_length} characters long")
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


def _within(low: int, high: int, what: str) -> _Check:
    def check(value: Any) -> None:
        if not (low <= value.seconds <= high and -1_000_000_000 < value.nanos < 1_000_000_000):
            raise InvalidArgument("", f"must be {what}")

    return check


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

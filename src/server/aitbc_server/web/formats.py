"""Numbers, times and hashes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc_server.rest.values import encode_of

_STEPS = ((60, "s"), (60, "min"), (24, "h"), (365, "d"))


def number(value: float) -> str:
    """Returns a number with a comma between thousands; a fraction keeps one digit."""
    return f"{value:,.1f}" if isinstance(value, float) and value % 1 else f"{value:,.0f}"


def compact(value: float) -> str:
    """Returns a number in five characters or fewer, such as 12.3k."""
    for unit in ("", "k", "M", "G"):
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}T"


def duration(seconds: float) -> str:
    """Returns a span of time by its greatest unit, such as 4 min."""
    value = max(0.0, seconds)
    if value < 1:
        return f"{value * 1000:.0f} ms" if value else "0 s"
    for size, unit in _STEPS:
        if value < size or unit == "d":
            return f"{value:.1f} {unit}" if value < 10 and unit == "s" else f"{int(value)} {unit}"
        value /= size
    raise AssertionError  # days take whatever is left


def ago(time: Timestamp, now_s: float) -> str:
    """Returns how long ago a time was."""
    seconds = now_s - seconds_of(time)
    return "just now" if seconds < 1 else f"{duration(int(seconds)).replace('.0', '')} ago"


def absolute(time: Timestamp) -> str:
    """Returns a time in full, in UTC."""
    return _datetime(time).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(time: Timestamp) -> str:
    """Returns the hour and minute of a time, in UTC."""
    return _datetime(time).strftime("%H:%M UTC")


def machine_readable(time: Timestamp) -> str:
    """Returns a time as RFC 3339."""
    return _datetime(time).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(time: Timestamp) -> float:
    """Returns seconds since the Unix epoch."""
    return time.seconds + time.nanos / 1e9


def value_name(message: Message, field: str) -> str:
    """Returns the name of an enum field's value as the REST API has it, such as `online`."""
    return _name(message, field, getattr(message, field))


def value_names(message: Message, field: str) -> list[str]:
    """Returns the names of the values of a list of an enum."""
    return [_name(message, field, number) for number in getattr(message, field)]


def short(text: str, size: int = 8) -> str:
    """Returns the beginning and the end of a hash or an id that is long."""
    return text if len(text) <= 2 * size + 3 else f"{text[:size]}…{text[-size // 2 :]}"


def _name(message: Message, field: str, number: int) -> str:
    encode = encode_of(cast("FieldDescriptor", message.DESCRIPTOR.fields_by_name[field]))
    return str(encode(number) if encode else number)


def _datetime(time: Timestamp) -> datetime:
    return datetime.fromtimestamp(time.seconds, UTC)

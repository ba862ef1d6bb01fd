"""Timestamps as RFC 3339 and durations as seconds, the texts that JSON carries them as."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from aitbc_server.domain.times import rfc3339_second

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# The range of google.protobuf.Timestamp: the years 1 to 9999.
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
# The range of google.protobuf.Duration: 10,000 years either way.
_LONGEST_DURATION_S = 315_576_000_000

_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))?"
)
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")


def format_timestamp(timestamp: Any) -> str:
    """Returns the time in UTC: whole seconds without a fraction, others with six digits of it."""
    text = rfc3339_second(timestamp.seconds)
    micros = timestamp.nanos // 1000
    return f"{text}.{micros:06}Z" if micros else text + "Z"


def parse_timestamp(text: str) -> dict[str, int]:
    """Returns the fields of the Timestamp; a text without an offset is UTC. Raises ValueError."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError("must be a time such as 2026-01-24T15:00:00Z")
    date, clock, fraction, sign, hours, minutes = match.groups()
    try:
        local = datetime.fromisoformat(f"{date}T{clock}+00:00")
    except ValueError:
        raise ValueError("must be a date and time that exist") from None
    seconds = (local - _EPOCH) // _SECOND
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise ValueError("must be in the years 1 to 9999")
    return {"seconds": seconds, "nanos": _nanos(fraction)}


def format_duration(duration: Any) -> str:
    """Returns seconds with as many of 0, 3, 6 or 9 digits as the fraction needs."""
    seconds, nanos = duration.seconds, duration.nanos
    sign = "-" if seconds < 0 or nanos < 0 else ""
    text = f"{sign}{abs(seconds)}"
    if not nanos:
        return text + "s"
    fraction = f"{abs(nanos):09}"
    while fraction.endswith("000"):
        fraction = fraction[:-3]
    return f"{text}.{fraction}s"


def parse_duration(text: str) -> dict[str, int]:
    """Returns the fields of the Duration. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("must be seconds such as 15s or 1.5s")
    sign, whole, fraction = match.groups()
    seconds, nanos = int(whole), _nanos(fraction)
    if seconds > _LONGEST_DURATION_S or (seconds == _LONGEST_DURATION_S and nanos):
        raise ValueError(f"must be at most {_LONGEST_DURATION_S}s")
    if sign:
        return {"seconds": -seconds, "nanos": -nanos}
    return {"seconds": seconds, "nanos": nanos}


def _nanos(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0

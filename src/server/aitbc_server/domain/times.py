"""Spans of time, and times as RFC 3339 texts in UTC, in which they are shown and signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """From a time, and before another: microseconds since the Unix epoch. None has no bound."""

    since_us: int | None = None
    until_us: int | None = None

    def has(self, time_us: int) -> bool:
        """Says whether a time is in it."""
        is_late_enough = self.since_us is None or time_us >= self.since_us
        return is_late_enough and (self.until_us is None or time_us < self.until_us)


ALWAYS = Span()


def rfc3339(micros: int) -> str:
    """Returns microseconds since the Unix epoch as a time: six digits of a fraction, or none."""
    seconds, rest = divmod(micros, 1_000_000)
    text = rfc3339_second(seconds)
    return f"{text}.{rest:06}Z" if rest else text + "Z"


def micros_of(text: str) -> int:
    """Returns the microseconds of a text that `rfc3339` wrote. Raises ValueError for any other."""
    micros = (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
    if rfc3339(micros) != text:
        raise ValueError(f"{text!r} is not a time as this ledger writes it")
    return micros


# The times of one response, and of one busy moment, share their seconds.
@lru_cache(maxsize=4096)
def rfc3339_second(seconds: int) -> str:
    """Returns the whole second of a time, without its `Z`."""
    # strftime does not fill the year up to four digits.
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")

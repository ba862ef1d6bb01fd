"""What one caller may do: each key, and each address that calls without one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

# Lower than any priority that may be asked for: behind the jobs of all others.
BEHIND_ALL = -1000
# Seconds' worth of requests that may come at once, unless the burst is set.
_BURST_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one caller. 0 stands for no limit."""

    # Calls, streams that are opened among them.
    requests_per_second: float = 0
    # Calls that may come at once after a pause; 0 for five seconds' worth.
    burst: int = 0
    # Jobs that are not final.
    jobs_in_flight: int = 0
    # Jobs that wait for a miner.
    pending_jobs: int = 0
    # Bytes of jobs that are stored: what they asked and answered, and what each takes beside it.
    stored_bytes: int = 0
    # Bytes of a job's prompt or messages.
    prompt_bytes: int = 0
    # Bytes of a request, before it is read.
    body_bytes: int = 0
    # Miner ids registered.
    miners: int = 0
    # Jobs submitted in a day, and tokens of the jobs that were completed in it. Days are UTC.
    jobs_per_day: int = 0
    tokens_per_day: int = 0

    @property
    def bucket(self) -> int:
        """How many calls may come at once."""
        return self.burst or max(1, math.ceil(self.requests_per_second * _BURST_S))

    @property
    def has_budget(self) -> bool:
        """Whether what is used in a day is limited."""
        return bool(self.jobs_per_day or self.tokens_per_day)

    def but(self, overrides: Mapping[str, float]) -> Limits:
        """Returns these limits with others in place of some, by name."""
        return replace(self, **cast("dict[str, Any]", overrides)) if overrides else self


UNLIMITED = Limits()
NAMES = tuple(field.name for field in fields(Limits))


def parse_limit(text: str) -> tuple[str, float | None]:
    """Returns the name and value of `NAME=VALUE`; None for `default`. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or name not in NAMES:
        raise ValueError(f"{text!r} is not NAME=VALUE, with one of {', '.join(NAMES)}")
    if value == "default":
        return name, None
    try:
        number = float(value) if name == "requests_per_second" else int(value)
    except ValueError:
        number = -1
    if not 0 <= number < 2**53:
        raise ValueError(f"{text!r}: the value is a number from 0, which is no limit, or `default`")
    return name, number

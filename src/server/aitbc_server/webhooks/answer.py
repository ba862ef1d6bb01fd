"""What comes of a request to a receiver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request."""

    duration_ms: int
    # None when the receiver did not answer.
    status_code: int | None = None
    # Why it counts as failed; empty when it does not.
    error: str = ""
    # Seconds after which the receiver wants the next request.
    retry_after_s: float | None = None
    # Whether a repetition may be answered otherwise.
    is_repeatable: bool = True

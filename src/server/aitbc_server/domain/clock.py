"""The seam through which time comes in."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time. Passed in, so that tests hold its hands."""

    def monotonic(self) -> float:
        """Returns seconds that only go forward: for leases, timers and durations."""
        ...

    def wall_us(self) -> int:
        """Returns microseconds since the Unix epoch, UTC: for what is stored and shown."""
        ...

"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's time."""

    def monotonic(self) -> float:
        """Returns seconds that only go forward."""
        return time.monotonic()

    def wall_us(self) -> int:
        """Returns microseconds since the Unix epoch."""
        return time.time_ns() // 1000

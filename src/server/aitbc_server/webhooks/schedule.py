"""When a delivery that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# Of the specification: seconds between one attempt and the next. The first is made at once.
STANDARD_DELAYS_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
# Receivers that come back from the same failure are not to be called by all at once.
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The delays between attempts, with jitter."""

    delays_s: Sequence[float]
    rng: random.Random

    def next_delay_s(self, tries: int, retry_after_s: float | None = None) -> float | None:
        """Returns how long to wait after so many attempts; None when no attempt is left.

        What the receiver asks for is honoured.
        """
        if tries > len(self.delays_s):
            return None
        delay_s = self.delays_s[tries - 1] * self.rng.uniform(1 - _JITTER, 1 + _JITTER)
        return max(delay_s, retry_after_s or 0.0)

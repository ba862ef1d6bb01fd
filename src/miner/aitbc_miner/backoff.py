"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

_FIRST_S = 0.2
_LONGEST_S = 15.0


class Backoff:
    """Doubles the longest wait with each attempt and takes a random part of it ("full jitter").

    Miners that lost the same coordinator at the same moment must not return at the same moment.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._longest_s = _FIRST_S

    def next_s(self) -> float:
        """Returns the seconds to wait now."""
        wait_s = self._rng.uniform(0.0, self._longest_s)
        self._longest_s = min(2 * self._longest_s, _LONGEST_S)
        return wait_s

    def reset(self) -> None:
        """Notes a success: the next wait is short again."""
        self._longest_s = _FIRST_S

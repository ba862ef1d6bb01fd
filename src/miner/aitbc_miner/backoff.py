"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

_FIRST_S = 0.2
# Until it is long gone, a coordinator is taken to be restarting.
_SOON_S = 1.0
# Below how long a lease lasts: a coordinator that comes back finds its miners before theirs end.
_LONGEST_S = 10.0
# A miner adds no more than this part to the time that the coordinator was away.
_PART = 0.25


class Backoff:
    """Waits longer the longer it has waited, a random part of that ("full jitter").

    Miners that lost the same coordinator at the same moment must not return at the same moment.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._longest_s = _FIRST_S
        self._waited_s = 0.0

    def next_s(self) -> float:
        """Returns the seconds to wait now."""
        wait_s = self._rng.uniform(0.0, self._longest_s)
        self._waited_s += wait_s
        soon_s = min(2 * self._longest_s, _SOON_S)
        self._longest_s = min(max(soon_s, _PART * self._waited_s), _LONGEST_S)
        return wait_s

    def reset(self) -> None:
        """Notes a success: the next wait is short again."""
        self._longest_s, self._waited_s = _FIRST_S, 0.0

"""The longest wait for a miner in each of the last sixty minutes, from looks at it now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

MINUTES = 60


class Waits:
    """A ring of minutes. It begins empty with the process, and costs the same for ever."""

    def __init__(self, now_s: float) -> None:
        """`now_s` is on any clock that only goes forward, as in `take`."""
        self._minute = int(now_s // 60)
        self._longest_s = deque([0.0] * MINUTES, maxlen=MINUTES)

    def take(self, wait_s: float, now_s: float) -> None:
        """Notes how long the job that waits longest has waited."""
        self._turn(now_s)
        self._longest_s[-1] = max(self._longest_s[-1], wait_s)

    def longest_s(self) -> Sequence[float]:
        """Returns the longest wait seen in each minute, from the oldest to the current one."""
        return tuple(self._longest_s)

    def _turn(self, now_s: float) -> None:
        minute = int(now_s // 60)
        # After a long sleep nothing of the ring is left, so no more than its length is turned.
        for _ in range(min(MINUTES, minute - self._minute)):
            self._longest_s.append(0.0)
        self._minute = minute

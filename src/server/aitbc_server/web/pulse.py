"""What the network did in each of the last sixty minutes, from counts looked at now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MINUTES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The network at one moment."""

    # Since the beginning.
    jobs: int
    tokens: int


@dataclass(slots=True, kw_only=True)
class Minute:
    """What happened in one minute."""

    jobs: int = 0
    tokens: int = 0


class Pulse:
    """A ring of minutes. It begins empty with the process, and costs the same for ever."""

    def __init__(self, now_s: float) -> None:
        """`now_s` is on any clock that only goes forward, as in `take`."""
        self._minute = int(now_s // 60)
        self._ring = deque((Minute() for _ in range(MINUTES)), maxlen=MINUTES)
        self._before: Counts | None = None

    def take(self, counts: Counts, now_s: float) -> None:
        """Adds what happened since the counts before to the current minute."""
        self._turn(now_s)
        current = self._ring[-1]
        if self._before is not None:
            current.jobs += counts.jobs - self._before.jobs
            current.tokens += counts.tokens - self._before.tokens
        self._before = counts

    def minutes(self) -> Sequence[Minute]:
        """Returns the minutes from the oldest to the current one."""
        return tuple(self._ring)

    def _turn(self, now_s: float) -> None:
        minute = int(now_s // 60)
        # After a long sleep nothing of the ring is left, so no more than its length is turned.
        for _ in range(min(MINUTES, minute - self._minute)):
            self._ring.append(Minute())
        self._minute = minute

"""Things to do at a time, without a clock of their own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from aitbc_server.dispatch.live import Now

# Called with an id and the present instant.
_Call = Callable[[str, Now], None]
# Entries of the heap, below which it is not worth rebuilding.
_FEW = 1_000
# Seconds until a call that raised is made again.
_AGAIN_S = 1.0


class Timers:
    """A heap of calls by time. It holds ids and no objects, and little of what was withdrawn."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerSet, str]] = []
        self._order = count()
        # Entries of the heap that were withdrawn: each stays until its time, or a rebuild.
        self._withdrawn = 0

    def __len__(self) -> int:
        """Returns how many entries are kept, withdrawn ones included."""
        return len(self._heap)

    def calling(self, call: _Call) -> TimerSet:
        """Returns a new set of timers that make this call."""
        return TimerSet(self, call)

    def next(self) -> float | None:
        """Returns the time of the next call, or None."""
        heap = self._heap
        while heap and not _is_set(heap[0]):
            heapq.heappop(heap)
            self._withdrawn -= 1
        return heap[0][0] if heap else None

    def run(self, now: Now) -> None:
        """Makes the calls whose time has come; what they set for now as well.

        A call that raises keeps none of the others from being made, and is made again later; the
        first error is raised at the end.
        """
        heap = self._heap
        fault: Exception | None = None
        while heap and heap[0][0] <= now.mono:
            entry = heapq.heappop(heap)
            if _is_set(entry):
                _, _, timers, key = entry
                del timers.orders[key]
                try:
                    timers.call(key, now)
                except Exception as error:
                    fault = fault or error
                    if key not in timers.orders:
                        timers.set(key, now.mono + _AGAIN_S)
            else:
                self._withdrawn -= 1
        if fault is not None:
            raise fault

    def push(self, timers: TimerSet, key: str, when: float) -> None:
        """Adds an entry, and gives it a number that tells it from older ones of its key."""
        timers.orders[key] = order = next(self._order)
        heapq.heappush(self._heap, (when, order, timers, key))

    def withdraw(self) -> None:
        """Counts an entry that is not set any more, and drops those when they are most of all."""
        self._withdrawn += 1
        if self._withdrawn > _FEW and 2 * self._withdrawn > len(self._heap):
            # In place: `run` may be under way.
            self._heap[:] = filter(_is_set, self._heap)
            heapq.heapify(self._heap)
            self._withdrawn = 0


class TimerSet:
    """Timers that make one call, at most one for each id."""

    def __init__(self, timers: Timers, call: _Call) -> None:
        self.call = call
        # Number of the entry that holds for each id.
        self.orders: dict[str, int] = {}
        self._timers = timers

    def __len__(self) -> int:
        return len(self.orders)

    def set(self, key: str, when: float) -> None:
        """Has the call made for an id at that time (monotonic), and at no other one."""
        if key in self.orders:
            self.cancel(key)
        self._timers.push(self, key, when)

    def cancel(self, key: str) -> None:
        """Has no call made for an id."""
        if key in self.orders:
            del self.orders[key]
            self._timers.withdraw()


def _is_set(entry: tuple[float, int, TimerSet, str]) -> bool:
    _, order, timers, key = entry
    return timers.orders.get(key) == order

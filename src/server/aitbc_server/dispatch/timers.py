"""Things to do at a time, without a clock of their own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Timers:
    """A heap of calls by time. Calls are never withdrawn: each checks whether it still applies."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], Any]] = []
        self._order = count()

    def at(self, when: float, call: Callable[..., None], argument: Any) -> None:
        """Has `call(argument, now)` made when that time has come."""
        heapq.heappush(self._heap, (when, next(self._order), call, argument))

    def next(self) -> float | None:
        """Returns the time of the next call, or None."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[tuple[Callable[..., None], Any]]:
        """Removes and returns the calls whose time has come."""
        calls = []
        while self._heap and self._heap[0][0] <= now:
            _, _, call, argument = heapq.heappop(self._heap)
            calls.append((call, argument))
        return calls

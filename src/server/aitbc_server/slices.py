"""Lets the event loop turn between requests that come all at once.

Each of them may take some milliseconds: a thousand in one turn would stop the loop for seconds. So
the first one of a turn begins a slice of time, and those that find it spent go on in a later turn.
"""

from __future__ import annotations

import asyncio
import time

# What a turn spends on requests before the rest of them waits for the next one.
SLICE_S = 0.02


class _Turn:
    """The turn that the loop is in."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        # When its slice is spent; 0 in a turn in which nobody has asked yet.
        self._ends = 0.0

    def is_spent(self) -> bool:
        now, ends = time.monotonic(), self._ends
        if now < ends:
            return False
        loop = asyncio.get_running_loop()
        if ends and loop is self._loop:
            return True
        self._loop, self._ends = loop, now + SLICE_S
        loop.call_soon(self._renew, loop)
        return False

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._loop:
            self._ends = 0.0


_turn = _Turn()
# Says whether what is about to begin should wait for another turn. Costs next to nothing.
is_spent = _turn.is_spent


async def next_turn() -> None:
    """Returns in a turn that has time left, in about the order of those who ask."""
    while _turn.is_spent():  # noqa: ASYNC110 - the event is the next turn
        await asyncio.sleep(0)

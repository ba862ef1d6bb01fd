"""Turns of which so many may be taken at once; the others wait for theirs."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Gives turns, in the order in which they are asked for.

    As a semaphore, but without a coroutine where there is one to be had.
    """

    __slots__ = ("_free", "_most", "_waiting")

    def __init__(self, most: int) -> None:
        """`most`: turns at once."""
        self._most = most
        self._free = most
        # Empty where any is free.
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_unused(self) -> bool:
        """Whether nobody has a turn or waits for one."""
        return self._free == self._most

    def take(self) -> bool:
        """Takes a turn, if there is one now."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Waits for a turn, and takes it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # It had come.
                self.give()
            raise

    def give(self) -> None:
        """Gives a turn back, to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            # Some wait no longer.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

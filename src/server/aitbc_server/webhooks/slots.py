"""Slots for which owners take turns: one who holds its share waits for itself alone."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

# For whom the running task sends.
acting_for: ContextVar[str] = ContextVar("acting_for", default="")


class Slots:
    """As many as there are; of these an owner has no more than its share."""

    def __init__(self, most: int, most_each: int) -> None:
        self._free = most
        self._most_each = most_each
        self._held: Counter[str] = Counter()
        # Who waits, by owner: the owner whose turn is next first.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, owner: str) -> None:
        """Waits for a slot."""
        if self._free and self._held[owner] < self._most_each:
            # Nobody waits who could have it: see `give`.
            self._free -= 1
            self._held[owner] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(owner, turn)
            else:
                # It came at the same time.
                self.give(owner)
            raise

    def give(self, owner: str) -> None:
        """Gives a slot back."""
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._fill()

    @asynccontextmanager
    async def held(self, owner: str) -> AsyncIterator[None]:
        """Holds a slot meanwhile."""
        await self.take(owner)
        try:
            yield
        finally:
            self.give(owner)

    def _fill(self) -> None:
        while self._free:
            owner = next((one for one in self._waiting if self._held[one] < self._most_each), None)
            if owner is None:
                return
            turn = self._waiting[owner][0]
            self._leave(owner, turn)
            if turn.cancelled():
                continue
            if owner in self._waiting:
                self._waiting.move_to_end(owner)
            self._free -= 1
            self._held[owner] += 1
            turn.set_result(None)

    def _leave(self, owner: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(owner)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del self._waiting[owner]

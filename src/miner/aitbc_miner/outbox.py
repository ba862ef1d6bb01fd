"""Decides when news of which jobs go out, so that one message carries news of many."""

from __future__ import annotations

from collections.abc import Callable

from aitbc.v1.work_pb2 import Update
from aitbc_miner._aio import Alarm
from aitbc_miner.lease import Lease

# Longest time that a delta waits for company. Below what a reader of the answer notices.
FLUSH_INTERVAL_S = 0.03
# News in one message. The next one follows at once; a coordinator may refuse messages above 4 MiB.
_MESSAGE_BYTES = 2**19


class Outbox:
    """Leases with news. Endings and first words go at once, with all that waits; the rest waits."""

    def __init__(self, alarm: Alarm, clock: Callable[[], float]) -> None:
        self._alarm = alarm
        self._clock = clock
        # An ordered set.
        self._dirty: dict[Lease, None] = {}
        # When the next message is due. None while there is no news.
        self._due_at: float | None = None
        self._flushed_at = float("-inf")

    def put(self, lease: Lease, *, urgent: bool) -> None:
        """Notes that a lease has news."""
        self._dirty[lease] = None
        if urgent:
            self._due_at = float("-inf")
            self._alarm.ring()
        elif self._due_at is None:
            self._due_at = self._flushed_at + FLUSH_INTERVAL_S
            self._alarm.ring_in(max(0.0, self._due_at - self._clock()))

    def discard(self, lease: Lease) -> None:
        """Forgets a lease."""
        self._dirty.pop(lease, None)

    def take(self) -> list[Update]:
        """Returns the updates of the next message; none when it is not due yet."""
        now = self._clock()
        if self._due_at is None:
            return []
        if now < self._due_at:
            # An alarm may ring a little early, by another clock than this one: set it again.
            self._alarm.ring_in(self._due_at - now)
            return []
        updates: list[Update] = []
        size = 0
        while self._dirty and size < _MESSAGE_BYTES:
            lease = next(iter(self._dirty))
            del self._dirty[lease]
            for update in lease.take_updates():
                size += update.ByteSize()
                updates.append(update)
        self._flushed_at = now
        if not self._dirty:
            self._due_at = None
        return updates

"""Decides when news of which jobs go out, so that one message carries news of many."""

from __future__ import annotations

from collections.abc import Callable

from aitbc.v1.work_pb2 import Update
from aitbc_miner._aio import Alarm
from aitbc_miner.errors import ResultTooLarge
from aitbc_miner.lease import Lease

# Longest time that a delta waits for company. Below what a reader of the answer notices.
FLUSH_INTERVAL_S = 0.03
# News in one message. The next one follows at once; a coordinator may refuse messages above 4 MiB.
_MESSAGE_BYTES = 2**19
# What a coordinator takes that does not say.
DEFAULT_MESSAGE_BYTES = 4 * 2**20
# Beside the updates, in their message.
_OVERHEAD_BYTES = 1024
# Around each of them.
_UPDATE_BYTES = 8


class Outbox:
    """Leases with news. Endings and first words go at once, with all that waits; the rest waits."""

    def __init__(
        self,
        alarm: Alarm,
        clock: Callable[[], float],
        unsendable: Callable[[Lease, Exception], None],
    ) -> None:
        """`unsendable`: ends a lease whose news cannot be told, with news that can."""
        self._unsendable = unsendable
        self._alarm = alarm
        self._clock = clock
        # An ordered set.
        self._dirty: dict[Lease, None] = {}
        # When the next message is due. None while there is no news.
        self._due_at: float | None = None
        self._flushed_at = float("-inf")
        # Largest message that the coordinator takes.
        self.most_bytes = DEFAULT_MESSAGE_BYTES
        # Updates that did not fit into the message before.
        self._carried: list[Update] = []

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
        if self._carried:
            self._carried = [one for one in self._carried if one.lease_id != lease.lease_id]

    def take(self) -> list[Update]:
        """Returns the updates of the next message; none when it is not due yet."""
        now = self._clock()
        if self._due_at is None:
            return []
        if now < self._due_at:
            # An alarm may ring a little early, by another clock than this one: set it again.
            self._alarm.ring_in(self._due_at - now)
            return []
        size = sum(map(Update.ByteSize, self._carried))
        while self._dirty and size < _MESSAGE_BYTES:
            lease = next(iter(self._dirty))
            del self._dirty[lease]
            for update in self._updates_of(lease):
                size += update.ByteSize()
                self._carried.append(update)
        updates = self._fitting()
        self._flushed_at = now
        if not self._dirty and not self._carried:
            self._due_at = None
        return updates

    def forget_carried(self) -> None:
        """Forgets what waits for the next message: it is told again from where it is asked for."""
        self._carried.clear()

    def _fitting(self) -> list[Update]:
        """Takes as many of the carried updates as one message holds, one at least."""
        size, count = 0, 0
        for update in self._carried:
            size += update.ByteSize() + _UPDATE_BYTES
            if count and size > self.most_bytes - _OVERHEAD_BYTES:
                break
            count += 1
        updates, self._carried = self._carried[:count], self._carried[count:]
        return updates

    def _updates_of(self, lease: Lease) -> list[Update]:
        next_sequence = lease.next_sequence
        try:
            updates = lease.take_updates()
            if any(update.ByteSize() > self.most_bytes - _OVERHEAD_BYTES for update in updates):
                raise ResultTooLarge(f"the answer does not fit into {self.most_bytes} bytes")
        except Exception as error:
            # Nothing of it was sent: its numbers are free.
            lease.rewind(next_sequence)
            self._unsendable(lease, error)
            return lease.take_updates()
        return updates

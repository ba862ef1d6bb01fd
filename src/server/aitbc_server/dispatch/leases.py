"""The leases that are not over, by id and by the miner that is away, and the ends of past ones."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import TypeVar

from aitbc_server.dispatch.live import Lease, Session

_Key = TypeVar("_Key")

# Ends remembered, so that a repeated result is acknowledged and not called lost.
_REMEMBERED = 100_000


class LeaseBook:
    """Keeps a job's `lease`, its session's `leases` and the indexes here in step."""

    def __init__(self) -> None:
        self.by_id: dict[str, Lease] = {}
        # Running jobs by model.
        self.by_model: Counter[str] = Counter()
        # Number of leases by the account of their jobs.
        self.by_account: Counter[str] = Counter()
        # Number of leases by miner.
        self._by_miner: Counter[str] = Counter()
        # Leases of streams that broke, by miner.
        self._away: dict[str, dict[str, Lease]] = {}
        self._ended: OrderedDict[str, int] = OrderedDict()

    def add(self, lease: Lease) -> None:
        """Begins a lease, of its session where it has one."""
        lease.job.lease = lease
        self.by_id[lease.lease_id] = lease
        self.by_model[lease.job.model] += 1
        self.by_account[lease.job.account] += 1
        self._by_miner[lease.miner_id] += 1
        self._place(lease)

    def remove(self, lease: Lease) -> Session | None:
        """Ends a lease; returns the session that held it."""
        session = lease.session
        self._unplace(lease)
        lease.session = lease.job.lease = None
        del self.by_id[lease.lease_id]
        decrement(self.by_model, lease.job.model)
        decrement(self.by_account, lease.job.account)
        decrement(self._by_miner, lease.miner_id)
        return session

    def move(self, lease: Lease, session: Session | None) -> None:
        """Gives a lease to a session of its miner, or to none while the miner is away."""
        self._unplace(lease)
        lease.session = session
        self._place(lease)

    def held_by(self, miner_id: str) -> int:
        """Returns how many leases a miner has."""
        return self._by_miner[miner_id]

    def away(self, miner_id: str) -> Iterator[Lease]:
        """Yields the leases that wait for their miner to come back."""
        yield from list(self._away.get(miner_id, {}).values())

    def remember(self, lease: Lease) -> None:
        """Keeps how far a lease got when it ended."""
        self._ended[lease.lease_id] = lease.next_sequence
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def ended_at(self, lease_id: str) -> int | None:
        """Returns how far a past lease got, or None when it is unknown or was long ago."""
        return self._ended.get(lease_id)

    def _place(self, lease: Lease) -> None:
        if lease.session is not None:
            lease.session.leases[lease.lease_id] = lease
            if lease.job.vanished and lease.first_at is None:
                lease.session.probation = lease
        elif lease.claim_s is None:
            self._away.setdefault(lease.miner_id, {})[lease.lease_id] = lease

    def _unplace(self, lease: Lease) -> None:
        if lease.session is not None:
            lease.session.leases.pop(lease.lease_id, None)
            if lease.session.probation is lease:
                lease.session.probation = None
        elif lease.miner_id in self._away:
            self._away[lease.miner_id].pop(lease.lease_id, None)
            if not self._away[lease.miner_id]:
                del self._away[lease.miner_id]


def decrement(counter: Counter[_Key], key: _Key, by: int = 1) -> None:
    """Counts down, keeping no zeros: keys come from callers, and would pile up."""
    counter[key] -= by
    if not counter[key]:
        del counter[key]

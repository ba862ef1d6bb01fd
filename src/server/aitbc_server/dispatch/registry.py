"""The miners that registered, by id, model and owner. The census knows who of them is there."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from aitbc_server.dispatch.leases import decrement
from aitbc_server.dispatch.live import Now
from aitbc_server.dispatch.sessions import Sessions
from aitbc_server.domain.errors import MinerNotFound
from aitbc_server.domain.miners import MinerRecord, MinerStatus


class Registry:
    """Miners by id."""

    def __init__(self, records: Iterable[MinerRecord], sessions: Sessions) -> None:
        self._records = {record.miner_id: record for record in records}
        self._sessions = sessions.by_miner
        self._census = sessions.census
        # In order: a page goes by key.
        self._ids = sorted(self._records)
        self._by_model: dict[str, dict[str, None]] = {}
        # Of models that pages were asked of, their miners in order.
        self._pages: dict[str, list[str]] = {}
        # By owner; "" has those of nobody.
        self._by_owner: Counter[str] = Counter()
        # When a miner was last heard of outside a session (microseconds since the Unix epoch).
        self._seen_us: dict[str, int] = {}
        for miner_id in self._ids:
            self._count(self._records[miner_id])

    def __len__(self) -> int:
        return len(self._records)

    def get(self, miner_id: str) -> MinerRecord:
        """Returns a miner. Raises MinerNotFound."""
        record = self._records.get(miner_id)
        if record is None:
            raise MinerNotFound
        return record

    def find(self, miner_id: str) -> MinerRecord | None:
        """Returns a miner, or None."""
        return self._records.get(miner_id)

    def put(self, record: MinerRecord) -> None:
        """Takes in a miner that is stored; since when it is known and drained stays as it was."""
        known = self._records.get(record.miner_id)
        if known is None:
            insort(self._ids, record.miner_id)
            self._count(record)
        else:
            record = replace(record, drained_us=known.drained_us, registered_us=known.registered_us)
            if (known.models, known.owner) != (record.models, record.owner):
                self._uncount(known)
                self._count(record)
        self._records[record.miner_id] = record

    def remove(self, miner_id: str) -> MinerRecord:
        """Lets go of a miner; returns what it was."""
        record = self._records.pop(miner_id)
        del self._ids[bisect_left(self._ids, miner_id)]
        self._uncount(record)
        self._seen_us.pop(miner_id, None)
        self._census.forget(miner_id)
        return record

    def owned_by(self, owner: str | None) -> int:
        """Returns how many miners an owner has; None has those of nobody."""
        return self._by_owner[owner or ""]

    def drain(self, miner_id: str, since_us: int | None) -> None:
        """Notes, as the store does, since when a miner is drained, or with None that it is not."""
        record = self._records.get(miner_id)
        if record is not None:
            if since_us is not None and record.drained_us is not None:
                since_us = record.drained_us
            self._records[miner_id] = replace(record, drained_us=since_us)
            self._census.drained(miner_id, is_drained=since_us is not None)

    def is_drained(self, miner_id: str) -> bool:
        """Whether a miner is to be given nothing new."""
        record = self._records.get(miner_id)
        return record is not None and record.drained_us is not None

    def seen(self, miner_id: str, now: Now) -> None:
        """Notes that a miner made a call, which serves its models so for a while."""
        record = self._records.get(miner_id)
        if record is None:
            return
        self._seen_us[miner_id] = now.wall_us
        is_drained = record.drained_us is not None
        self._census.called(miner_id, record.models, now, is_drained=is_drained)

    def left(self, miner_id: str, now: Now) -> None:
        """Notes that the stream of a miner ended: it was there until now."""
        if miner_id in self._records:
            self._seen_us[miner_id] = now.wall_us

    def ids(self, model: str = "") -> Sequence[str]:
        """Returns the ids of all miners, or of those that have a model, in order."""
        if not model:
            return self._ids
        if model in self._by_model and model not in self._pages:
            self._pages[model] = sorted(self._by_model[model])
        return self._pages.get(model, ())

    def having(self, model: str) -> Collection[str]:
        """Returns the ids of the miners that have a model."""
        return self._by_model.get(model, {}).keys()

    def lacking(self, model: str) -> Iterator[str]:
        """Yields the ids of the miners that do not have a model."""
        having = self._by_model.get(model, {})
        return (one for one in self._records if one not in having)

    def status(self, miner_id: str, now: Now) -> MinerStatus:
        """Returns whether a miner takes work."""
        return self._census.status(miner_id, now)

    def last_seen_us(self, miner_id: str, now: Now) -> int | None:
        """Returns when a miner was last heard of, or None when not since the start."""
        session = self._sessions.get(miner_id)
        if session is not None:
            return now.wall_us - int((now.mono - session.heard_at) * 1e6)
        return self._seen_us.get(miner_id)

    def heard(self, now: Now) -> dict[str, int]:
        """Returns when each miner was last heard of, of those that were since the start."""
        seen = dict(self._seen_us)
        for miner_id in self._sessions:
            seen[miner_id] = self.last_seen_us(miner_id, now) or 0
        return {miner_id: at for miner_id, at in seen.items() if miner_id in self._records}

    def counts(self, now: Now) -> dict[MinerStatus, int]:
        """Returns how many miners have each status."""
        return self._census.counts(now, registered=len(self._records))

    def _count(self, record: MinerRecord) -> None:
        self._by_owner[record.owner or ""] += 1
        for model in record.models:
            self._by_model.setdefault(model, {})[record.miner_id] = None
            if model in self._pages:
                insort(self._pages[model], record.miner_id)

    def _uncount(self, record: MinerRecord) -> None:
        decrement(self._by_owner, record.owner or "")
        for model in record.models:
            having, page = self._by_model[model], self._pages.get(model)
            del having[record.miner_id]
            if not having:
                del self._by_model[model]
                self._pages.pop(model, None)
            elif page is not None:
                del page[bisect_left(page, record.miner_id)]

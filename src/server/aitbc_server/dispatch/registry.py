"""The miners that ever registered, and which of them are there: presence lives in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aitbc_server.dispatch.live import Now
from aitbc_server.dispatch.sessions import Sessions
from aitbc_server.domain.errors import MinerNotFound, MinerNotOwned
from aitbc_server.domain.miners import MinerRecord, MinerStatus

# How long a miner that polls counts as online after its last call.
POLL_PRESENCE_US = 60_000_000


class Registry:
    """Miners by id."""

    def __init__(self, records: Iterable[MinerRecord], sessions: Sessions) -> None:
        self._records = {record.miner_id: record for record in records}
        self._sessions = sessions.by_miner
        # When a miner was last heard of outside a session (microseconds since the Unix epoch).
        self._seen_us: dict[str, int] = {}

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
        """Takes in a miner that is stored; whether it is drained stays as it was.

        Raises MinerNotOwned when another's was stored first.
        """
        known = self._records.get(record.miner_id)
        if known is not None:
            if known.owner not in (None, record.owner):
                raise MinerNotOwned
            record = replace(record, drained_us=known.drained_us)
        self._records[record.miner_id] = record

    def drain(self, miner_id: str, since_us: int | None) -> None:
        """Notes since when a miner is drained, or with None that it is not."""
        self._records[miner_id] = replace(self._records[miner_id], drained_us=since_us)

    def is_drained(self, miner_id: str) -> bool:
        """Whether a miner is to be given nothing new."""
        record = self._records.get(miner_id)
        return record is not None and record.drained_us is not None

    def records(self) -> Iterable[MinerRecord]:
        """Returns all miners."""
        return self._records.values()

    def seen(self, miner_id: str, now: Now) -> None:
        """Notes that a miner made a call."""
        self._seen_us[miner_id] = now.wall_us

    def ids_after(self, miner_id: str) -> list[str]:
        """Returns the ids of the miners after one, in order."""
        return sorted(known for known in self._records if known > miner_id)

    def status(self, miner_id: str, now: Now) -> MinerStatus:
        """Returns whether a miner takes work."""
        session = self._sessions.get(miner_id)
        if session is not None:
            is_draining = session.window == 0 or session.is_drained
            return MinerStatus.DRAINING if is_draining else MinerStatus.ONLINE
        if now.wall_us - self._seen_us.get(miner_id, 0) <= POLL_PRESENCE_US:
            return MinerStatus.DRAINING if self.is_drained(miner_id) else MinerStatus.ONLINE
        return MinerStatus.OFFLINE

    def last_seen_us(self, miner_id: str, now: Now) -> int | None:
        """Returns when a miner was last heard of, or None when not since the start."""
        session = self._sessions.get(miner_id)
        if session is not None:
            return now.wall_us - int((now.mono - session.heard_at) * 1e6)
        return self._seen_us.get(miner_id)

    def counts(self, now: Now) -> dict[MinerStatus, int]:
        """Returns how many miners have each status."""
        counts = dict.fromkeys(MinerStatus, 0)
        for miner_id in self._records:
            counts[self.status(miner_id, now)] += 1
        return counts

    def serving(self) -> dict[str, int]:
        """Returns how many sessions serve each model."""
        counts: dict[str, int] = {}
        for session in self._sessions.values():
            for model in session.models:
                counts[model] = counts.get(model, 0) + 1
        return counts

    def parents(self) -> dict[str, str]:
        """Returns, of the models that sessions serve as adapters, the model that each changes."""
        parents: dict[str, str] = {}
        for session in self._sessions.values():
            parents |= session.parents
        return parents

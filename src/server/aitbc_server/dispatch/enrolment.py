"""How miners come into the registry and go: on disk and in memory alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.leases import decrement
from aitbc_server.dispatch.live import Now
from aitbc_server.dispatch.registry import Registry
from aitbc_server.domain.errors import (
    MinerInUse,
    MinerNotOwned,
    StorageUnavailable,
    TooManyMiners,
)
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.store.seam import Store

# How far what is stored of when a miner was heard of may be behind.
_NOTED_EVERY_US = 3_600_000_000
# Miners that are removed or noted in one write.
_BATCH = 1_000


class Enrolment:
    """Registers and removes miners."""

    def __init__(self, store: Store, registry: Registry, core: Core) -> None:
        self._store = store
        self._registry = registry
        self._core = core
        # Miners that register or begin a session just now; new registrations by owner.
        self._under_way: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        # When each miner was last heard of, as far as this process has stored it.
        self._noted_us: dict[str, int] = {}

    async def register(self, record: MinerRecord, *, most: int) -> None:
        """Stores a miner, of which its owner has at most so many; 0 is no limit.

        Raises TooManyMiners, and MinerNotOwned when another owner's registration was first.
        """
        known = self._registry.find(record.miner_id)
        owner = record.owner or ""
        is_new = known is None or known.owner != record.owner
        if is_new and most and self._registry.owned_by(record.owner) + self._new[owner] >= most:
            raise TooManyMiners(
                f"{most} miner ids are registered, as many as may be: remove those that are gone "
                "with DELETE /v1/miners/{miner_id}, or ask the operator for a larger limit"
            )
        stored = self._store.register(record, partial(self._registered, record, is_new))
        self._under_way[record.miner_id] += 1
        if is_new:
            self._new[owner] += 1
        if not await stored:
            raise MinerNotOwned

    @contextmanager
    def kept(self, miner_id: str) -> Iterator[None]:
        """Keeps a miner from being removed meanwhile."""
        self._under_way[miner_id] += 1
        try:
            yield
        finally:
            decrement(self._under_way, miner_id)

    async def remove(self, miner_id: str) -> None:
        """Removes a miner that is registered. Raises MinerInUse and StorageUnavailable."""
        if not self._is_removable(miner_id):
            raise MinerInUse
        await self._remove([miner_id])

    async def expire(self, before_us: int, now: Now) -> int:
        """Removes miners that nobody has heard of since a time; returns how many.

        Raises StorageUnavailable.
        """
        await self._note(now)
        silent = [one for one in self._registry.ids() if self._is_gone(one, before_us, now)]
        for start in range(0, len(silent), _BATCH):
            # As it is now: some may have come back while others were removed.
            batch = silent[start : start + _BATCH]
            await self._remove([one for one in batch if self._is_gone(one, before_us, now)])
        return len(silent)

    def _registered(self, record: MinerRecord, is_new: bool, stored: bool | Exception) -> None:
        decrement(self._under_way, record.miner_id)
        if is_new:
            decrement(self._new, record.owner or "")
        if stored is True:
            self._registry.put(record)

    def _is_removable(self, miner_id: str) -> bool:
        """Whether nothing of a miner is there, nor on its way."""
        return (
            miner_id not in self._under_way
            and miner_id not in self._core.sessions.by_miner
            and not self._core.leases.held_by(miner_id)
        )

    def _is_gone(self, miner_id: str, before_us: int, now: Now) -> bool:
        record = self._registry.find(miner_id)
        if record is None or not self._is_removable(miner_id):
            return False
        seen_us = max(record.seen_us, self._noted_us.get(miner_id, 0))
        return max(seen_us, self._registry.last_seen_us(miner_id, now) or 0) < before_us

    async def _remove(self, miner_ids: Sequence[str]) -> None:
        if not miner_ids:
            return
        # In memory first: nothing must begin with what is about to go.
        removed = [self._registry.remove(miner_id) for miner_id in miner_ids]
        for miner_id in miner_ids:
            self._core.sessions.forget(miner_id)
            self._noted_us.pop(miner_id, None)
        then = partial(self._removed, removed)
        try:
            stored = self._store.remove_miners(miner_ids, then)
        except StorageUnavailable as error:
            then(error)
            raise
        await stored

    def _removed(self, records: Sequence[MinerRecord], stored: Exception | None) -> None:
        if stored is None:
            return
        for record in records:
            if self._registry.find(record.miner_id) is None:
                self._registry.put(record)

    async def _note(self, now: Now) -> None:
        """Stores when miners were heard of, where what is stored is long behind."""
        heard = {
            miner_id: seen_us
            for miner_id, seen_us in self._registry.heard(now).items()
            if seen_us > self._noted_us.get(miner_id, 0) + _NOTED_EVERY_US
        }
        if heard:
            await self._store.note_miners(heard)
            self._noted_us |= heard

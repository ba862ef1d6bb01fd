"""The keys in memory: what every call asks, and what tells when they have changed on disk.

A command in another process creates and revokes keys. It leaves a mark that this process sees in
shared memory, so that the next call after the command's end meets the keys as they are then, and
nothing is read from the disk until there is something to read.
"""

from __future__ import annotations

import asyncio
import hmac
from asyncio import Future
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import InvalidApiKey, StorageUnavailable
from aitbc_server.domain.keys import KeyRecord, digest_of, is_well_formed, key_id_of
from aitbc_server.domain.limits import Limits
from aitbc_server.supervisor import Supervisor, end

# How often uses of keys are stored, and changes looked for whose mark was lost to a crash.
_TEND_S = 10.0


class KeyStore(Protocol):
    """What the keyring needs of storage."""

    def has_changed(self) -> bool:
        """Says whether another process marked a change since this was last asked. Costs 0.1 us."""
        ...

    def changed_keys(self) -> Sequence[KeyRecord]:
        """Returns the keys that are new or changed since this was last asked. Reads the disk."""
        ...

    def note_uses(self, uses: Sequence[tuple[str, int]]) -> Future[None]:
        """Stores when keys were last used; takes (key_id, used_us)."""
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """A key and who calls with it."""

    record: KeyRecord
    caller: Caller


class Keyring:
    """The keys by id. Use from one event loop."""

    def __init__(self, store: KeyStore, clock: Clock, limits: Limits) -> None:
        """Reads all keys; `limits` are those of a key that has none of its own.

        Raises StorageUnavailable.
        """
        self._store = store
        self._limits = limits
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._key_ids: dict[str, str] = {}
        # When keys were used that nobody has stored yet, by key id.
        self._used_us: dict[str, int] = {}
        self._tending: asyncio.Task[None] | None = None
        self._refresh()

    def find(self, text: str) -> Key:
        """Returns the key that a text is. Raises InvalidApiKey. No disk, no await: 2 us."""
        if self._store.has_changed():
            self._refresh()
        key = self._keys.get(key_id_of(text))
        if key is None or not hmac.compare_digest(digest_of(text), key.record.digest):
            raise InvalidApiKey(None if is_well_formed(text) else "the API key is mistyped")
        now_us = self._clock.wall_us()
        # Told only to who has the secret.
        problem = key.record.problem(now_us)
        if problem is not None:
            raise InvalidApiKey(problem)
        self._used_us[key.record.key_id] = now_us
        return key

    def key_id_of(self, owner: str) -> str | None:
        """Returns the id of the key whose address this is."""
        return self._key_ids.get(owner)

    def check_live(self, key_id: str) -> Caller:
        """Returns who calls with a key as it is now, for calls that last.

        Raises InvalidApiKey when it was valid and no longer is.
        """
        if self._store.has_changed():
            self._refresh()
        key = self._keys[key_id]
        problem = key.record.problem(self._clock.wall_us())
        if problem is not None:
            raise InvalidApiKey(problem)
        return key.caller

    def start(self, supervisor: Supervisor) -> None:
        """Begins to store when keys are used."""
        self._tending = supervisor.keep("keys", self._tend_each)

    async def stop(self) -> None:
        """Stores what is left."""
        if self._tending is not None:
            await end([self._tending])
        stored = self._store_uses()
        if stored is not None:
            await asyncio.wait([stored])

    def _refresh(self) -> None:
        for record in self._store.changed_keys():
            owner = record.owner
            caller = Caller(
                owner=owner,
                role=record.role,
                key_id=record.key_id,
                account=owner,
                limits=self._limits.but(record.limits),
                models=record.models,
            )
            self._keys[record.key_id] = Key(record, caller)
            self._key_ids[owner] = record.key_id

    async def _tend_each(self) -> None:
        while True:
            await asyncio.sleep(_TEND_S)
            # Where the storage cannot be reached, it is logged, and the next call tries again.
            with suppress(StorageUnavailable):
                self._refresh()
            self._store_uses()

    def _store_uses(self) -> Future[None] | None:
        if not self._used_us:
            return None
        uses, self._used_us = list(self._used_us.items()), {}
        try:
            stored = self._store.note_uses(uses)
        except StorageUnavailable:
            return None
        # Looked at, or the loop complains: uses that cannot be stored are not worth an error.
        stored.add_done_callback(Future.exception)
        return stored

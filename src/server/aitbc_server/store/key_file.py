"""The keys of a data directory, for a command that runs beside the server or without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson

from aitbc_server.domain.keys import KeyRecord
from aitbc_server.store.changes import mark_change
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.failures import unusable
from aitbc_server.store.key_rows import SQL, key_of
from aitbc_server.store.schema import migrate

# A busy server holds the lock for most of the time, a few milliseconds at a time.
_LOCK_PATIENCE_MS = 30_000


class KeyFile:
    """The keys of a data directory, for a command. A server may serve from it meanwhile."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self._directory = directory
        self._connection = connection

    def create(self, key: KeyRecord) -> None:
        """Stores a new key; a server knows it when this returns."""
        self._change(
            "insert_key",
            (
                key.key_id,
                key.digest,
                key.role,
                key.name,
                key.created_us,
                key.expires_us,
                orjson.dumps(key.limits).decode(),
                orjson.dumps(key.models).decode(),
            ),
        )

    def revoke(self, key_id: str, now_us: int) -> bool:
        """Revokes a key: a server refuses it when this returns. Says whether the key exists."""
        return self._change("revoke_key", (key_id, now_us)) > 0

    def limit(self, key_id: str, limits: Mapping[str, float | None]) -> bool:
        """Changes limits of a key, None to the configured one. Says whether the key exists."""
        return self._change("limit_key", (key_id, orjson.dumps(limits).decode())) > 0

    def set_models(self, key_id: str, models: Sequence[str]) -> bool:
        """Names the models that a miner's key may serve, none for all.

        Says whether there is such a key of a miner.
        """
        return self._change("set_models", (key_id, orjson.dumps(models).decode())) > 0

    def all(self) -> list[KeyRecord]:
        """Returns all keys, the oldest first."""
        return [key_of(row) for row in self._connection.execute(SQL["all_keys"])]

    def _change(self, statement: str, values: tuple[Any, ...]) -> int:
        with closing(self._connection.execute(SQL[statement], values)) as done:
            changed = done.rowcount
        mark_change(self._directory)
        return changed


@contextmanager
def open_keys(directory: Path) -> Iterator[KeyFile]:
    """Opens the keys of a directory, making it and its database where there are none.

    Raises OSError, UnusableDatabaseError and SqliteTooOldError, also for what is done meanwhile.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / FILE_NAME
    with unusable(path), closing(connect(path)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_PATIENCE_MS}")
        # The server checkpoints.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        migrate(connection)
        yield KeyFile(directory, connection)

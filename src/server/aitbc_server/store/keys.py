"""What the server reads and writes of keys. Commands create and revoke them: see key_file.py."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.keys import KeyRecord
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.changes import Changes
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.key_rows import SQL, key_of
from aitbc_server.store.rows import json_rows
from aitbc_server.store.writer import Writes

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NoteUses:
    """Stores when keys were last used, as (key_id, used_us)."""

    uses: Sequence[tuple[str, int]]


class KeyWrites:
    """What the server writes of keys."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.writes: Writes = {NoteUses: self._note_uses}

    def _note_uses(self, operations: Sequence[NoteUses]) -> Sequence[None]:
        rows = [use for operation in operations for use in operation.uses]
        self._connection.execute(SQL["note_uses"], (json_rows(rows),))
        return [None] * len(operations)


class Keys:
    """The keys of a running server."""

    def __init__(
        self, directory: Path, connection: sqlite3.Connection, writes: BatchThread
    ) -> None:
        """`connection` is read on the thread of the event loop. Raises OSError."""
        self._connection = connection
        self._writes = writes
        self._changes = Changes(directory)
        # The last mark and revision that were read; no mark is negative.
        self._mark = -1
        self._revision = 0

    def has_changed(self) -> bool:
        """Says whether another process changed a key since the keys were last read."""
        return self._changes.mark() != self._mark

    def changed_keys(self) -> list[KeyRecord]:
        """Returns the keys that are new or changed since this was last asked, at once.

        Raises StorageUnavailable.
        """
        mark = self._changes.mark()
        try:
            rows = self._connection.execute(SQL["changed_keys"], (self._revision,)).fetchall()
        except sqlite3.Error as error:
            _log.error("store.read_failed", error=str(error))
            raise StorageUnavailable(retry_after_s=1) from error
        self._mark = mark
        if rows:
            self._revision = rows[-1][-1]
        return [key_of(row) for row in rows]

    def note_uses(self, uses: Sequence[tuple[str, int]]) -> Future[None]:
        """Stores when keys were last used."""
        return self._writes.put(NoteUses(uses))

    def close(self) -> None:
        """Lets go of the mark and the connection."""
        self._changes.close()
        self._connection.close()

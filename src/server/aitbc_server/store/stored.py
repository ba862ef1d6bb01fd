"""How many bytes the jobs of each owner take, counted in the transactions that change it."""

from __future__ import annotations

from collections.abc import Mapping

from aitbc_server.domain.errors import Quota, TooMuchStored
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.rows import json_rows
from aitbc_server.store.statements import statements

_SQL = statements("stored.sql")
# When something may have been deleted: old jobs are looked for once a minute.
_RETRY_S = 60.0


class StoredCounts:
    """Counts bytes as they are stored and deleted. Runs on the writer's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # What was counted last of each owner. It is wrong after a transaction that was rolled back,
        # or where another process deletes, until something of the owner is counted or refused.
        self._by_owner: dict[str, int] = dict(connection.execute(_SQL["all_stored"]))

    def add(self, changes: Mapping[str, int]) -> None:
        """Counts bytes by owner, negative ones of what is deleted."""
        if changes:
            rows = json_rows(list(changes.items()))
            counted = self._connection.execute(_SQL["count_stored"], (rows,)).fetchall()
            self._by_owner.update(counted)

    def refusal(self, owner: str, size: int, most: int) -> TooMuchStored | None:
        """Returns why an owner may not store so many bytes more, if so; `most` of 0 is no limit."""
        if not most or self._by_owner.get(owner, 0) + size <= most:
            return None
        row = self._connection.execute(_SQL["stored"], (owner,)).fetchone()
        now = self._by_owner[owner] = 0 if row is None else row[0]
        if now + size <= most:
            return None
        return TooMuchStored(
            f"jobs may take {most:,} bytes, and those that are stored take {now:,}",
            quota=Quota("stored-bytes", most),
            retry_after_s=_RETRY_S,
        )

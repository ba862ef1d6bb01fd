"""Applies a batch of writes in one transaction, each kind as one set.

A part is what one domain writes: a table from its operations to what applies them. All parts share
the connection, and so the commit.

Writes of one batch are concurrent: no caller had the answer to one before asking for another. So
they may be grouped by kind. Sharing a commit is all that they have in common: one that cannot be
applied is found by halving the batch, and the others are stored. Runs on the writer's thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.store.connection import empty_log, sqlite3
from aitbc_server.store.failures import is_of_storage, remedy

_log = structlog.get_logger(__name__)
# Pages in the WAL above which it is copied back between batches: 4,096 bytes each.
_CHECKPOINT_PAGES = 4096
# Pages that a commit writes however little is in it, and that an operation writes beside, where it
# has no `wal_pages` that says otherwise: measured, a whole job is about 30 pages in commits of its
# own, and 2 among 64.
_COMMIT_PAGES = 8
_WAL_PAGES = 1

# By the type of an operation: takes all operations of the type that a batch holds, and returns for
# each its result, or an exception that is the answer to its caller.
Writes = Mapping[type[Any], Callable[[Sequence[Any]], Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class EmptyLog:
    """Leaves nothing in the WAL, once what came before is committed; answers whether it could.

    What was deleted is then in none of the files: see `connect`. It cannot while somebody reads
    what was there before, as a backup does.
    """


class Part(Protocol):
    """What one domain writes."""

    writes: Writes


class Writer:
    """The one connection that writes."""

    def __init__(self, connection: sqlite3.Connection, parts: Iterable[Part]) -> None:
        """Within a commit, operations are applied in the order of the parts and of their tables."""
        self._connection = connection
        # Checkpoints are run by hand, after a commit has been answered for, never inside one.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._wal_pages = 0
        self._apply = {kind: apply for part in parts for kind, apply in part.writes.items()}

    def run(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Applies the batch in one commit; returns each operation's result or exception."""
        places: dict[type[Any], list[int]] = defaultdict(list)
        for place, operation in enumerate(batch):
            places[type(operation)].append(place)
        try:
            results = self._transaction(batch, places)
        except BaseException as raised:
            error = raised
        else:
            self._tidy(batch, places, results)
            return results
        # Here, not in the handler: what the halves raise has nothing to do with it.
        return self._refused(batch, error)

    def _refused(self, batch: Sequence[Any], error: BaseException) -> Sequence[Any]:
        """Answers for a batch of which nothing was written."""
        if is_of_storage(error):
            _log.error(
                "store.write_failed",
                error=str(error),
                remedy=remedy(error),
                operations=len(batch),
            )
            return [StorageUnavailable(retry_after_s=1) for _ in batch]
        if len(batch) > 1:
            middle = len(batch) // 2
            return [*self.run(batch[:middle]), *self.run(batch[middle:])]
        _log.error("store.write_rejected", operation=type(batch[0]).__name__, exc_info=error)
        # For want of memory, which may pass.
        return [StorageUnavailable(retry_after_s=1) if isinstance(error, MemoryError) else error]

    def _transaction(
        self, batch: Sequence[Any], places: Mapping[type[Any], Sequence[int]]
    ) -> list[Any]:
        results: list[Any] = [None] * len(batch)
        if self._connection.in_transaction:
            # The last one could not be rolled back.
            self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for kind, apply in self._apply.items():
                if kind not in places:
                    continue
                group = places[kind]
                answers = apply([batch[place] for place in group])
                for place, answer in zip(group, answers, strict=True):
                    results[place] = answer
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return results

    def _tidy(
        self, batch: Sequence[Any], places: Mapping[type[Any], Sequence[int]], results: list[Any]
    ) -> None:
        """Looks after the log. What is committed stays so, whatever becomes of this."""
        emptied = places.get(EmptyLog, ())
        for place in emptied:
            results[place] = False
        try:
            if not emptied:
                self._checkpoint(batch, places)
                return
            # Not waiting for a reader: every commit would wait with it.
            is_empty = empty_log(self._connection)
            self._wal_pages = 0
        except Exception as error:
            _log.error("store.log_not_copied", error=str(error), remedy=remedy(error))
            return
        for place in emptied:
            results[place] = is_empty

    def _checkpoint(self, batch: Sequence[Any], places: Mapping[type[Any], Sequence[int]]) -> None:
        # A guess that errs on the small side costs little: PASSIVE copies what there is.
        self._wal_pages += _COMMIT_PAGES
        for kind, group in places.items():
            if hasattr(kind, "wal_pages"):
                self._wal_pages += sum(batch[place].wal_pages for place in group)
            else:
                self._wal_pages += _WAL_PAGES * len(group)
        if self._wal_pages >= _CHECKPOINT_PAGES:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._wal_pages = 0

"""Deletes final jobs with all that hangs on them. Receipts, totals and usage stay.

Runs on the writer's thread, but for the reads, which run on the reader's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from aitbc_server.domain.ids import first_job_id
from aitbc_server.domain.jobs import JOB_BYTES, OldJobs
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.rows import json_rows
from aitbc_server.store.statements import statements
from aitbc_server.store.stored import StoredCounts
from aitbc_server.store.writer import Writes

_SQL = statements("forgetting.sql")
_DELETIONS = (
    *("note_receipts", "delete_specs", "delete_results", "delete_attempts"),
    *("delete_exceptions", "delete_jobs"),
)
# Jobs that one look at the oldest takes in.
_SCAN = 256
# What one commit forgets at most, so that it stays short.
BATCH_JOBS = 64
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Forget:
    """Deletes the jobs that are final; answers with their ids."""

    job_ids: Sequence[str]

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes: those that become free, too."""
        return 4 * len(self.job_ids)


class ForgettingWrites:
    """The part of the writer that forgets."""

    def __init__(self, connection: sqlite3.Connection, stored: StoredCounts) -> None:
        self._connection = connection
        self._stored = stored
        self.writes: Writes = {Forget: self._forget}

    def _forget(self, operations: Sequence[Forget]) -> Sequence[frozenset[str]]:
        asked = {job_id for operation in operations for job_id in operation.job_ids}
        found = self._connection.execute(_SQL["final_jobs"], (json_rows(sorted(asked)),))
        rows = orjson.loads(found.fetchone()[0])
        done = frozenset(job_id for job_id, *_ in rows)
        if done:
            counts = Counter(status for _, status, *_ in rows)
            self._execute("count_forgotten", list(counts.items()))
            freed: Counter[str] = Counter()
            for _, _, owner, _, size in rows:
                freed[owner] -= JOB_BYTES + size
            self._stored.add(freed)
            for deletion in _DELETIONS:
                self._execute(deletion, sorted(done))
            self._free_names({(owner, name) for _, _, owner, name, _ in rows if name is not None})
        return [done.intersection(operation.job_ids) for operation in operations]

    def _free_names(self, names: set[tuple[str, str]]) -> None:
        if names:
            self._execute("blank_requests", sorted(names))
            self._execute("delete_requests", sorted(names))

    def _execute(self, statement: str, rows: Sequence[object]) -> None:
        self._connection.execute(_SQL[statement], (json_rows(rows),))


class ForgettingReads:
    """Finds what may be forgotten."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def old_jobs(self, before_us: int, after: str) -> OldJobs:
        """Returns those of the next jobs by age that became final before a time.

        No index leads to them, for every job would pay for it: ids are in the order of time, and
        what is older than is kept is mostly final.
        """
        values = (after, first_job_id(before_us), before_us, _SCAN)
        rows = self._connection.execute(_SQL["old_jobs"], values).fetchall()
        return OldJobs(
            sizes={job_id: size for job_id, size in rows if size is not None},
            next_after=rows[-1][0] if len(rows) == _SCAN else None,
        )

    def unkept_jobs(self, before_us: int) -> dict[str, int]:
        """Returns jobs that are not kept and became final before a time, with their bytes."""
        values = (before_us, _SCAN)
        return dict(self._connection.execute(_SQL["unkept_jobs"], values).fetchall())


def batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yields the jobs of each commit, in order; `sizes` has the bytes of each."""
    batch: list[str] = []
    size = 0
    for job_id, job_bytes in sizes.items():
        if batch and (len(batch) == BATCH_JOBS or size + job_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job_id)
        size += job_bytes
    if batch:
        yield batch

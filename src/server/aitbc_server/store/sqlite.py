"""The Store on one SQLite file."""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from aitbc_server.domain.jobs import (
    Begin,
    Completion,
    Ending,
    JobPage,
    JobRecord,
    JobStatus,
    LiveRecord,
    OldJobs,
    Submission,
    Submitted,
    Totals,
)
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.domain.times import ALWAYS, Span
from aitbc_server.store import operations
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.batch_writes import BatchWrites
from aitbc_server.store.batches import BatchReads, BatchTables
from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME, lock
from aitbc_server.store.failures import unusable
from aitbc_server.store.file_writes import FileWrites
from aitbc_server.store.files import FileReads, FileTables
from aitbc_server.store.forgetting import Forget, ForgettingReads, ForgettingWrites
from aitbc_server.store.job_reads import JobReads
from aitbc_server.store.job_writes import JobWrites
from aitbc_server.store.keys import Keys, KeyWrites
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.store.ledger_reads import LedgerReads
from aitbc_server.store.ledger_writes import LedgerOptions, LedgerWrites
from aitbc_server.store.probe import Probe, ProbeWrites
from aitbc_server.store.reader import run_reads
from aitbc_server.store.schema import migrate
from aitbc_server.store.stored import StoredCounts
from aitbc_server.store.usage import UsageCounts, UsageTable
from aitbc_server.store.webhook_reads import WebhookReads
from aitbc_server.store.webhook_writes import WebhookWrites
from aitbc_server.store.webhooks import WebhookTables
from aitbc_server.store.writer import EmptyLog, Part, Writer

_DEFAULT_LEDGER = LedgerOptions()


class SqliteStore:
    """Jobs and miners in `DIR/coordinator.db`: one thread that writes, one that reads."""

    def __init__(self, directory: Path, ledger: LedgerOptions = _DEFAULT_LEDGER) -> None:
        """Opens the database, creating or migrating it; needs a running event loop.

        Raises OSError (DataInUseError, LedgerKeyMissingError), UnusableDatabaseError and
        SqliteTooOldError.
        """
        self._is_closed = False
        self._lock = lock(directory)
        path = directory / FILE_NAME
        try:
            with unusable(path):
                self._write_connection = connect(path)
                migrate(self._write_connection)
                ledger_writes = LedgerWrites(self._write_connection, directory, ledger)
                self._read_connection = connect(path, read_only=True)
                key_connection = connect(path, read_only=True)
                counts = StoredCounts(self._write_connection)
        except BaseException:
            os.close(self._lock)
            raise
        parts: list[Part] = [
            JobWrites(
                self._write_connection,
                ledger_writes,
                UsageCounts(self._write_connection, ledger.prices),
                counts,
            ),
            WebhookWrites(self._write_connection),
            KeyWrites(self._write_connection),
            ProbeWrites(self._write_connection),
            ForgettingWrites(self._write_connection, counts),
            FileWrites(self._write_connection),
            BatchWrites(self._write_connection),
            ledger_writes,
        ]
        self._writes = BatchThread("store-writer", Writer(self._write_connection, parts).run)
        self._reads = BatchThread("store-reader", run_reads, most=64)
        self._jobs = JobReads(self._read_connection)
        self._old = ForgettingReads(self._read_connection)
        self.keys = Keys(directory, key_connection, self._writes)
        self.webhooks = WebhookTables(
            self._writes, self._reads, WebhookReads(self._read_connection)
        )
        self.files = FileTables(self._writes, self._reads, FileReads(self._read_connection))
        self.batches = BatchTables(self._writes, self._reads, BatchReads(self._read_connection))
        self.ledger = StoredLedger(
            ledger_writes.origin, LedgerReads(self._read_connection), self._reads, self._writes
        )
        self.usage = UsageTable(self._reads, self._read_connection)
        # Called on the loop after a commit in which jobs may have become final.
        self.on_jobs_ended: Callable[[], None] = lambda: None
        # Called on the loop after a commit that forgot jobs.
        self.on_jobs_forgotten: Callable[[], None] = lambda: None

    def watch_commits(self, watch: Callable[[int, float, bool], None]) -> None:
        """Has `watch` told of each commit: operations, seconds, and whether it succeeded."""
        self._writes.watchers.append(watch)

    def probe(self) -> Future[None]:
        """Writes something that changes nothing."""
        return self._writes.put(Probe())

    async def close(self) -> None:
        """Commits what waits and closes the file. May be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.gather(self._writes.close(), self._reads.close())
        self.keys.close()
        self._read_connection.close()
        self._write_connection.close()
        os.close(self._lock)

    def submit(
        self, submission: Submission, then: Callable[[Submitted | Exception], None] | None = None
    ) -> Future[Submitted]:
        return self._writes.put(operations.Submit(submission), then, size=submission.size)

    def begin(self, leases: Sequence[Begin]) -> Future[frozenset[str]]:
        return self._writes.put(operations.BeginLeases(leases))

    def complete(self, completions: Sequence[Completion]) -> Future[frozenset[str]]:
        return self._writes.put(operations.Complete(completions), self._jobs_ended)

    def end(self, endings: Sequence[Ending]) -> Future[frozenset[str]]:
        return self._writes.put(operations.End(endings), self._jobs_ended)

    def flag_cancels(self, jobs: Sequence[tuple[str, int, bool]]) -> Future[None]:
        return self._writes.put(operations.FlagCancels(jobs))

    def register(
        self, miner: MinerRecord, then: Callable[[bool | Exception], None] | None = None
    ) -> Future[bool]:
        return self._writes.put(operations.Register(miner), then)

    def drain(
        self,
        miner_id: str,
        since_us: int | None,
        then: Callable[[Exception | None], None] | None = None,
    ) -> Future[None]:
        return self._writes.put(operations.Drain(miner_id, since_us), then)

    def remove_miners(
        self,
        miner_ids: Sequence[str],
        then: Callable[[Exception | None], None] | None = None,
    ) -> Future[None]:
        return self._writes.put(operations.RemoveMiners(miner_ids), then)

    def note_miners(self, seen_us: Mapping[str, int]) -> Future[None]:
        return self._writes.put(operations.NoteMiners(seen_us))

    def job(self, job_id: str, *, attempts: bool = False) -> Future[JobRecord | None]:
        return self._reads.put(partial(self._jobs.job, job_id, attempts=attempts))

    def jobs(
        self,
        owner: str,
        *,
        limit: int,
        status: JobStatus | None = None,
        model: str | None = None,
        before: str | None = None,
        created: Span = ALWAYS,
        texts: bool = True,
    ) -> Future[JobPage]:
        args = (owner, status, model, before, limit, created)
        return self._reads.put(partial(self._jobs.jobs, *args, texts=texts))

    def specs(
        self, job_ids: Sequence[str], *, most_bytes: int | None = None
    ) -> Future[dict[str, bytes]]:
        return self._reads.put(partial(self._jobs.specs, job_ids, most_bytes))

    def leases(self, job_ids: Sequence[str]) -> Future[dict[str, tuple[JobStatus, str, str]]]:
        return self._reads.put(partial(self._jobs.leases, job_ids))

    def live(self) -> Future[list[LiveRecord]]:
        return self._reads.put(self._jobs.live)

    def miners(self) -> Future[list[MinerRecord]]:
        return self._reads.put(self._jobs.miners)

    def totals(self) -> Future[Totals]:
        return self._reads.put(self._jobs.totals)

    def old_jobs(self, before_us: int, *, after: str = "") -> Future[OldJobs]:
        return self._reads.put(partial(self._old.old_jobs, before_us, after))

    def unkept_jobs(self, before_us: int) -> Future[dict[str, int]]:
        return self._reads.put(partial(self._old.unkept_jobs, before_us))

    def forget(self, job_ids: Sequence[str]) -> Future[frozenset[str]]:
        return self._writes.put(Forget(job_ids), self._jobs_forgotten)

    def erase(self) -> Future[bool]:
        return self._writes.put(EmptyLog())

    def _jobs_forgotten(self, result: object) -> None:
        if not isinstance(result, Exception) and result:
            self.on_jobs_forgotten()

    def _jobs_ended(self, result: object) -> None:
        if not isinstance(result, Exception):
            self.on_jobs_ended()

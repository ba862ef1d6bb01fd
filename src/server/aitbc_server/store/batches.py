"""Batches on the SQLite file: what their service and their runner ask of storage."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson

from aitbc_server.domain.batches import (
    Advance,
    BatchFault,
    BatchRecord,
    BatchStatus,
    OpenLine,
    Refused,
)
from aitbc_server.store import batch_writes as writes
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.statements import statements

_SQL = statements("batches.sql")


class BatchReads:
    """Reads batches. Runs on the reader's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def batch(self, batch_id: str) -> BatchRecord | None:
        """Returns a batch."""
        row = self._connection.execute(_SQL["batch"], (batch_id,)).fetchone()
        return None if row is None else _batch(row)

    def batches(self, owner: str, after: str | None, limit: int) -> list[BatchRecord]:
        """Returns some of an owner's batches, the newest first."""
        rows = self._connection.execute(_SQL["batches_of"], (owner, after, limit)).fetchall()
        return [_batch(row) for row in rows]

    def active(self) -> list[BatchRecord]:
        """Returns all batches that have not ended."""
        return [_batch(row) for row in self._connection.execute(_SQL["active_batches"])]

    def lines(self, batch_id: str) -> list[OpenLine]:
        """Returns the lines of a batch that are being run."""
        rows = self._connection.execute(_SQL["lines_of"], (batch_id,)).fetchall()
        return [OpenLine._make(row) for row in rows]


class BatchTables:
    """Batches, durably. Futures as in the Store."""

    def __init__(self, write: BatchThread, read: BatchThread, reads: BatchReads) -> None:
        self._write = write.put
        self._read = read.put
        self._reads = reads
        # Called on the loop after a commit that stored a batch, or that is to cancel one.
        self.on_added: Callable[[BatchRecord], None] = lambda _: None
        self.on_cancelled: Callable[[str], None] = lambda _: None

    def add(self, batch: BatchRecord, most: int) -> Future[Refused | None]:
        """Stores a batch whose owner may have so many under way; says why not."""
        return self._write(writes.AddBatch(batch, most), partial(self._added, batch))

    def begin(self, batch_id: str, total: int, now_us: int) -> Future[bool]:
        """Notes that a batch's file is right, and has so many lines."""
        return self._write(writes.BeginBatch(batch_id, total, now_us))

    def fail(self, batch_id: str, faults: Sequence[BatchFault], now_us: int) -> Future[bool]:
        """Ends a batch whose file is wrong."""
        return self._write(writes.FailBatch(batch_id, faults, now_us))

    def cancel(self, batch_id: str, now_us: int, faults: Sequence[BatchFault] = ()) -> Future[bool]:
        """Notes that a batch is to be cancelled; False when it is, or has ended."""
        operation = writes.CancelBatch(batch_id, now_us, faults)
        return self._write(operation, partial(self._cancelled, batch_id))

    def advance(self, advance: Advance) -> Future[None]:
        """Stores a step of a batch."""
        size = len(advance.output) + len(advance.errors)
        return self._write(writes.AdvanceBatch(advance), size=size)

    def end(
        self, batch_id: str, status: BatchStatus, now_us: int, expires_us: int | None
    ) -> Future[bool]:
        """Ends a batch, and the files that it wrote."""
        return self._write(writes.EndBatch(batch_id, status, now_us, expires_us))

    def drop(self, before_us: int, most: int) -> Future[int]:
        """Deletes so many batches at most that ended before a time; returns how many."""
        return self._write(writes.DropBatches(before_us, most))

    def batch(self, batch_id: str) -> Future[BatchRecord | None]:
        """Returns a batch."""
        return self._read(partial(self._reads.batch, batch_id))

    def batches(
        self, owner: str, *, limit: int, after: str | None = None
    ) -> Future[list[BatchRecord]]:
        """Returns a page of an owner's batches, the newest first."""
        return self._read(partial(self._reads.batches, owner, after, limit))

    def active(self) -> Future[list[BatchRecord]]:
        """Returns all batches that have not ended."""
        return self._read(self._reads.active)

    def lines(self, batch_id: str) -> Future[list[OpenLine]]:
        """Returns the lines of a batch that are being run."""
        return self._read(partial(self._reads.lines, batch_id))

    def _added(self, batch: BatchRecord, result: object) -> None:
        if result is None:
            self.on_added(batch)

    def _cancelled(self, batch_id: str, result: object) -> None:
        if result is True:
            self.on_cancelled(batch_id)


def _batch(row: Sequence[Any]) -> BatchRecord:
    return BatchRecord(
        batch_id=row[0],
        owner=row[1],
        account=row[2],
        key_id=row[3],
        endpoint=row[4],
        input_file_id=row[5],
        completion_window=row[6],
        metadata=orjson.loads(row[7]),
        keep_output_s=row[8],
        created_us=row[9],
        expires_us=row[10],
        status=BatchStatus(row[11]),
        faults=tuple(BatchFault(*fault) for fault in orjson.loads(row[12])),
        output_file_id=row[13],
        error_file_id=row[14],
        total=row[15],
        completed=row[16],
        failed=row[17],
        prompt_tokens=row[18],
        completion_tokens=row[19],
        read_bytes=row[20],
        read_lines=row[21],
        in_progress_us=row[22],
        cancelling_us=row[23],
        ended_us=row[24],
    )

"""Writes of batches. Runs on the writer's thread.

A step of a batch is one commit: which lines it opened and closed, what it wrote to the files, and
what it counted. So a crash at any moment neither loses a line nor tells one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from aitbc_server.domain.batches import Advance, BatchFault, BatchRecord, BatchStatus, Refused
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.operations import PAGE_BYTES
from aitbc_server.store.rows import json_rows
from aitbc_server.store.statements import statements
from aitbc_server.store.writer import Writes

_SQL = statements("batches.sql")
_FILES = statements("files.sql")


@dataclass(frozen=True, slots=True)
class AddBatch:
    """Stores a batch, unless its owner has that many under way."""

    batch: BatchRecord
    most: int


@dataclass(frozen=True, slots=True)
class BeginBatch:
    """validating -> in_progress."""

    batch_id: str
    total: int
    now_us: int


@dataclass(frozen=True, slots=True)
class FailBatch:
    """validating -> failed."""

    batch_id: str
    faults: Sequence[BatchFault]
    now_us: int


@dataclass(frozen=True, slots=True)
class CancelBatch:
    """validating or in_progress -> cancelling."""

    batch_id: str
    now_us: int
    faults: Sequence[BatchFault] = ()


@dataclass(frozen=True, slots=True)
class AdvanceBatch:
    """A step of a batch."""

    advance: Advance

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes."""
        one = self.advance
        written = (len(one.output) + len(one.errors)) // PAGE_BYTES
        return 8 + written + (len(one.opened) + len(one.closed)) // 64


@dataclass(frozen=True, slots=True)
class EndBatch:
    """The last step: the files that it wrote are finished."""

    batch_id: str
    status: BatchStatus
    now_us: int
    # When its files are deleted.
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class DropBatches:
    """Deletes some of the batches that ended before a time; answers how many."""

    before_us: int
    most: int


class BatchLost(RuntimeError):
    """A batch that is being run is no longer there as it was: somebody else wrote it."""


class BatchWrites:
    """The part of the writer that batches are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self.writes: Writes = {
            AddBatch: self._add,
            BeginBatch: self._begin,
            FailBatch: self._fail,
            CancelBatch: self._cancel,
            AdvanceBatch: self._advance,
            EndBatch: self._end,
            DropBatches: self._drop,
        }

    def _add(self, operations: Sequence[AddBatch]) -> Sequence[Refused | None]:
        return [self._add_one(operation.batch, operation.most) for operation in operations]

    def _add_one(self, one: BatchRecord, most: int) -> Refused | None:
        is_there, active = self._execute(
            _SQL["may_read"], (one.input_file_id, one.owner)
        ).fetchone()
        if not is_there:
            return Refused.NO_FILE
        if active >= most:
            return Refused.TOO_MANY
        noted = orjson.dumps(dict(one.metadata)).decode()
        who = (one.batch_id, one.owner, one.account, one.key_id)
        what = (one.endpoint, one.input_file_id, one.completion_window, noted)
        times = (one.keep_output_s, one.created_us, one.expires_us)
        self._execute(_SQL["insert_batch"], (*who, *what, *times))
        return None

    def _begin(self, operations: Sequence[BeginBatch]) -> Sequence[bool]:
        return [
            self._execute(_SQL["begin_batch"], (one.batch_id, one.total, one.now_us)).rowcount == 1
            for one in operations
        ]

    def _fail(self, operations: Sequence[FailBatch]) -> Sequence[bool]:
        return [
            self._execute(
                _SQL["fail_batch"], (one.batch_id, _rows(one.faults), one.now_us)
            ).rowcount
            == 1
            for one in operations
        ]

    def _cancel(self, operations: Sequence[CancelBatch]) -> Sequence[bool]:
        return [
            self._execute(
                _SQL["cancel_batch"], (one.batch_id, one.now_us, _rows(one.faults))
            ).rowcount
            == 1
            for one in operations
        ]

    def _advance(self, operations: Sequence[AdvanceBatch]) -> Sequence[None]:
        for operation in operations:
            self._advance_one(operation.advance)
        return [None] * len(operations)

    def _advance_one(self, one: Advance) -> None:
        counts = (one.completed, one.failed, one.prompt_tokens, one.completion_tokens)
        names = (
            one.output_file_id if one.output else None,
            one.error_file_id if one.errors else None,
        )
        found = self._execute(
            _SQL["advance_batch"], (one.batch_id, one.read_bytes, one.read_lines, *names, *counts)
        ).fetchone()
        closed = 0
        if one.closed:
            rows = (one.batch_id, json_rows(one.closed))
            closed = self._execute(_SQL["close_lines"], rows).rowcount
        if found is None or closed != len(one.closed):
            raise BatchLost(one.batch_id)
        if one.opened:
            self._execute(_SQL["open_lines"], (one.batch_id, _rows(one.opened)))
        for file_id, kind, content in zip(
            found, ("output", "errors"), (one.output, one.errors), strict=True
        ):
            if content:
                name = f"{one.batch_id}_{kind}.jsonl"
                self._execute(_SQL["insert_output"], (file_id, one.owner, name, one.now_us))
                self._execute(_SQL["append_output"], (file_id, content))
                self._execute(_FILES["grow_file"], (file_id, len(content)))

    def _end(self, operations: Sequence[EndBatch]) -> Sequence[bool]:
        answers = []
        for one in operations:
            found = self._execute(
                _SQL["end_batch"], (one.batch_id, one.status, one.now_us)
            ).fetchone()
            answers.append(found is not None)
            for file_id in found or ():
                if file_id is not None:
                    self._execute(_SQL["finish_output"], (file_id, one.expires_us))
            self._execute(_SQL["delete_lines"], (one.batch_id,))
        return answers

    def _drop(self, operations: Sequence[DropBatches]) -> Sequence[int]:
        return [
            self._execute(_SQL["delete_ended"], (one.before_us, one.most)).rowcount
            for one in operations
        ]


def _rows(rows: Sequence[tuple[Any, ...]]) -> str:
    # A tuple with names is none to orjson.
    return json_rows([tuple(row) for row in rows])

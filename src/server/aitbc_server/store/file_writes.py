"""Writes of files. Runs on the writer's thread.

The content is in the database, in parts: it is as durable as the jobs, a backup has it, and what is
deleted is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aitbc_server.domain.files import Appended, Dropped, FileRecord
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.operations import PAGE_BYTES
from aitbc_server.store.statements import statements
from aitbc_server.store.writer import Writes

_SQL = statements("files.sql")
_BATCHES = statements("batches.sql")
# Files that one commit finds to be over time.
_EXPIRED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class AddFile:
    """Stores a file without content, unless its owner has that many."""

    file: FileRecord
    most: int


@dataclass(frozen=True, slots=True)
class AppendFile:
    """Adds a part, unless its owner's files would have more bytes than `most_bytes`."""

    file_id: str
    start: int
    content: bytes
    most_bytes: int

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes."""
        return 4 + len(self.content) // PAGE_BYTES


@dataclass(frozen=True, slots=True)
class FinishFile:
    """Ends a file of so many bytes."""

    file_id: str
    size: int
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class DropFile:
    """Deletes a file; its content goes with DropParts."""

    file_id: str


@dataclass(frozen=True, slots=True)
class ExpireFiles:
    """Deletes some of the files whose time is over."""

    now_us: int


@dataclass(frozen=True, slots=True)
class DropFilesOf:
    """Deletes an owner's files that no batch needs, and its batches that have ended."""

    owner: str


@dataclass(frozen=True, slots=True)
class DropParts:
    """Deletes some of the content of files that are deleted; answers how many parts."""

    most: int

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes: those that become free."""
        return 64 * self.most


class FileWrites:
    """The part of the writer that files are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self.writes: Writes = {
            AddFile: self._add,
            AppendFile: self._append,
            FinishFile: self._finish,
            DropFile: self._drop,
            ExpireFiles: self._expire,
            DropFilesOf: self._drop_of,
            DropParts: self._drop_parts,
        }

    def _add(self, operations: Sequence[AddFile]) -> Sequence[bool]:
        answers = []
        for operation in operations:
            one = operation.file
            values = (one.file_id, one.owner, one.filename, one.purpose, one.created_us)
            done = self._execute(_SQL["insert_file"], (*values, one.expires_us, operation.most))
            answers.append(done.rowcount == 1)
        return answers

    def _append(self, operations: Sequence[AppendFile]) -> Sequence[Appended]:
        return [self._append_one(operation) for operation in operations]

    def _append_one(self, part: AppendFile) -> Appended:
        found = self._execute(_SQL["file_state"], (part.file_id,)).fetchone()
        if found is None:
            return Appended.MISPLACED
        size, owned = found
        if part.start != size:
            again = (part.file_id, part.start, part.content)
            is_last = part.start + len(part.content) == size
            is_there = is_last and self._execute(_SQL["part_at"], again).fetchone()
            return Appended.STORED if is_there else Appended.MISPLACED
        if owned + len(part.content) > part.most_bytes:
            return Appended.OVER
        self._execute(_SQL["insert_part"], (part.file_id, part.start, part.content))
        self._execute(_SQL["grow_file"], (part.file_id, len(part.content)))
        return Appended.STORED

    def _finish(self, operations: Sequence[FinishFile]) -> Sequence[bool]:
        return [
            self._execute(_SQL["finish_file"], (one.file_id, one.size, one.expires_us)).rowcount
            == 1
            for one in operations
        ]

    def _drop(self, operations: Sequence[DropFile]) -> Sequence[Dropped]:
        return [self._drop_one(operation.file_id) for operation in operations]

    def _drop_one(self, file_id: str) -> Dropped:
        use = self._execute(_SQL["file_use"], (file_id,)).fetchone()
        if use is None:
            return Dropped.UNKNOWN
        if use[0]:
            return Dropped.IN_USE
        self._execute(_SQL["drop_file"], (file_id,))
        return Dropped.GONE

    def _expire(self, operations: Sequence[ExpireFiles]) -> Sequence[int]:
        return [
            self._execute(_SQL["expire_files"], (one.now_us, _EXPIRED_AT_ONCE)).rowcount
            for one in operations
        ]

    def _drop_of(self, operations: Sequence[DropFilesOf]) -> Sequence[int]:
        answers = []
        for operation in operations:
            self._execute(_BATCHES["delete_ended_of"], (operation.owner,))
            answers.append(self._execute(_SQL["drop_files_of"], (operation.owner,)).rowcount)
        return answers

    def _drop_parts(self, operations: Sequence[DropParts]) -> Sequence[int]:
        answers = []
        for operation in operations:
            answers.append(self._execute(_SQL["delete_parts"], (operation.most,)).rowcount)
            if answers[-1] < operation.most:
                self._execute(_SQL["delete_files"])
        return answers

"""Files on the SQLite file: what their service, and the batches that read them, ask of storage."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aitbc_server.domain.files import Appended, Dropped, FilePurpose, FileRecord
from aitbc_server.store import file_writes as writes
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.statements import statements

_SQL = statements("files.sql")


class FileReads:
    """Reads files. Runs on the reader's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def file(self, file_id: str) -> FileRecord | None:
        """Returns a file."""
        row = self._connection.execute(_SQL["file"], (file_id,)).fetchone()
        return None if row is None else _file(row)

    def files(
        self,
        owner: str,
        purpose: FilePurpose | None,
        after: str | None,
        limit: int,
        oldest_first: bool,
    ) -> list[FileRecord]:
        """Returns some of an owner's finished files."""
        name = "files_oldest" if oldest_first else "files_newest"
        rows = self._connection.execute(_SQL[name], (owner, after, purpose, limit)).fetchall()
        return [_file(row) for row in rows]

    def content(self, file_id: str, start: int) -> bytes:
        """Returns some of the content from a place on; nothing at its end."""
        row = self._connection.execute(_SQL["content"], (file_id, start)).fetchone()
        if row is None:
            return b""
        content: bytes = row[1][start - row[0] :]
        return content


class FileTables:
    """Files, durably. Futures as in the Store."""

    def __init__(self, write: BatchThread, read: BatchThread, reads: FileReads) -> None:
        self._write = write.put
        self._read = read.put
        self._reads = reads
        # Called on the loop after a commit that deleted files, or some of their content.
        self.on_dropped: Callable[[], None] = lambda: None

    def add(self, file: FileRecord, most: int) -> Future[bool]:
        """Stores a file without content; False when its owner has as many as `most`."""
        return self._write(writes.AddFile(file, most))

    def append(self, file_id: str, start: int, content: bytes, most_bytes: int) -> Future[Appended]:
        """Adds to a file, whose owner's files may have so many bytes together."""
        operation = writes.AppendFile(file_id, start, content, most_bytes)
        return self._write(operation, size=len(content))

    def finish(self, file_id: str, size: int, expires_us: int | None) -> Future[bool]:
        """Ends a file; False when it does not have so many bytes, or has ended."""
        return self._write(writes.FinishFile(file_id, size, expires_us))

    def drop(self, file_id: str) -> Future[Dropped]:
        """Deletes a file; its content goes with `drop_parts`."""
        return self._write(writes.DropFile(file_id), self._dropped)

    def expire(self, now_us: int) -> Future[int]:
        """Deletes some of the files whose time is over; returns how many."""
        return self._write(writes.ExpireFiles(now_us), self._dropped)

    def drop_parts(self, most: int) -> Future[int]:
        """Deletes so many parts at most of what is deleted; returns how many."""
        return self._write(writes.DropParts(most))

    def file(self, file_id: str) -> Future[FileRecord | None]:
        """Returns a file, finished or not."""
        return self._read(partial(self._reads.file, file_id))

    def files(
        self,
        owner: str,
        *,
        limit: int,
        purpose: FilePurpose | None = None,
        after: str | None = None,
        oldest_first: bool = False,
    ) -> Future[list[FileRecord]]:
        """Returns a page of an owner's finished files."""
        return self._read(partial(self._reads.files, owner, purpose, after, limit, oldest_first))

    def content(self, file_id: str, start: int) -> Future[bytes]:
        """Returns some of the content from a place on; nothing at its end."""
        return self._read(partial(self._reads.content, file_id, start))

    def _dropped(self, result: Any) -> None:
        if result and not isinstance(result, Exception):
            self.on_dropped()


def _file(row: Sequence[Any]) -> FileRecord:
    return FileRecord(
        file_id=row[0],
        owner=row[1],
        filename=row[2],
        purpose=FilePurpose(row[3]),
        created_us=row[4],
        expires_us=row[5],
        size=row[6],
        is_finished=bool(row[7]),
    )

"""The jobs and files of one owner, for a command that runs beside the server or without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aitbc_server.domain.jobs import FINAL
from aitbc_server.store.connection import connect, empty_log, sqlite3
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.failures import unusable
from aitbc_server.store.file_writes import DropFilesOf, DropParts, FileWrites
from aitbc_server.store.forgetting import Forget, ForgettingWrites, batches
from aitbc_server.store.schema import migrate
from aitbc_server.store.statements import statements
from aitbc_server.store.stored import StoredCounts

_SQL = statements("forgetting.sql")
_FILES = statements("files.sql")
# A busy server holds the lock for most of the time, a few milliseconds at a time.
_LOCK_PATIENCE_MS = 30_000
_LOG_PATIENCE_MS = 1_000
# Jobs read at once, and parts of files deleted at once.
_PART = 500
_PARTS = 4


class JobFile:
    """The jobs of a data directory. A server may serve from it meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._writes = ForgettingWrites(connection, StoredCounts(connection))
        self._file_writes = FileWrites(connection)

    def count(self, owner: str) -> tuple[int, int]:
        """Returns how many jobs of an owner are final, and how many are not."""
        final, others = self._connection.execute(_SQL["count_owned"], (owner,)).fetchone()
        return final, others

    def forget(self, owner: str) -> Iterator[int]:
        """Deletes the jobs of an owner that are final; yields how many with each commit."""
        for status in sorted(FINAL):
            while sizes := self._part(owner, status):
                for batch in batches(sizes):
                    began = time.monotonic()
                    self._connection.execute("BEGIN IMMEDIATE")
                    (done,) = self._writes.writes[Forget]([Forget(batch)])
                    self._connection.execute("COMMIT")
                    yield len(done)
                    # The lock is the server's meanwhile.
                    time.sleep(time.monotonic() - began)

    def count_files(self, owner: str) -> int:
        """Returns how many files an owner has."""
        (count,) = self._connection.execute(_FILES["count_files_of"], (owner,)).fetchone()
        return int(count)

    def forget_files(self, owner: str) -> int:
        """Deletes the files of an owner that no batch needs, and its batches that have ended.

        Returns how many files.
        """
        dropped: int = self._written(DropFilesOf(owner))
        while self._written(DropParts(_PARTS)) == _PARTS:
            pass
        return dropped

    def erase(self) -> bool:
        """Leaves nothing in the files of what was deleted; says whether that could be done."""
        return empty_log(self._connection, patience_ms=_LOG_PATIENCE_MS)

    def _written(self, operation: DropFilesOf | DropParts) -> int:
        began = time.monotonic()
        self._connection.execute("BEGIN IMMEDIATE")
        (done,) = self._file_writes.writes[type(operation)]([operation])
        self._connection.execute("COMMIT")
        time.sleep(time.monotonic() - began)
        return int(done)

    def _part(self, owner: str, status: str) -> dict[str, int]:
        return dict(self._connection.execute(_SQL["ended_jobs"], (owner, status, _PART)).fetchall())


@contextmanager
def open_jobs(directory: Path) -> Iterator[JobFile]:
    """Opens the jobs of a directory.

    Raises OSError, UnusableDatabaseError and SqliteTooOldError, also for what is done meanwhile.
    """
    path = directory / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: name the coordinator's directory with --data"
        )
    with unusable(path), closing(connect(path)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_PATIENCE_MS}")
        # The server checkpoints.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        migrate(connection)
        yield JobFile(connection)

"""A mark in shared memory: tells the server at once that another process changed the database.

The mark is a number in a small file beside the database. A memory-mapped look at it costs 0.1 us
and releases no lock of the interpreter, so that every call can afford one; SQLite's own
`data_version` would cost every call a read transaction. Like SQLite's WAL it needs the processes to
be on one machine.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

_NAME = "coordinator.changes"
_SIZE = 8


class Changes:
    """Sees the marks that other processes leave."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        file = _open(directory)
        try:
            self._map = mmap.mmap(file, _SIZE, prot=mmap.PROT_READ)
        finally:
            os.close(file)
        self._mark = memoryview(self._map).cast("Q")

    def mark(self) -> int:
        """Returns the present mark: another one than before when something has changed since."""
        return self._mark[0]

    def close(self) -> None:
        """Lets the file go."""
        self._mark.release()
        self._map.close()


def mark_change(directory: Path) -> None:
    """Leaves a mark. Call when the change is committed. Raises OSError."""
    file = _open(directory)
    try:
        # Random rather than counted: two processes that mark at once must not leave the same.
        os.pwrite(file, os.urandom(_SIZE), 0)
    finally:
        os.close(file)


def _open(directory: Path) -> int:
    file = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.ftruncate(file, _SIZE)
    return file

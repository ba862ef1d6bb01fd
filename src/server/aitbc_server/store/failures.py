"""What SQLite's errors mean to an operator, and what to do about each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aitbc_server.store.connection import sqlite3

_FREE_SPACE = "free space on its disk"
# Bytes without which nothing can be opened.
_NEEDED = 256 * 1024
# By the text of the error.
_DAMAGED = ("file is not a database", "database disk image is malformed")
_REMEDIES = {
    **dict.fromkeys(
        _DAMAGED,
        "it is damaged; stop the coordinator and bring a backup back with "
        "`aitbc-coordinator restore BACKUP --data DIR --replace`, which keeps the damaged file",
    ),
    "database or disk is full": _FREE_SPACE,
    "attempt to write a readonly database": "make the file and its disk writable",
    "unable to open database file": "make its directory exist, and be readable and writable",
    "disk I/O error": "look at its disk: it may be full or broken; the system's log may say more",
    "database is locked": "end the other program that writes to it",
}

# Primary result codes (https://sqlite.org/rescode.html) that tell of the disk, of the file, or of
# who else uses it.
_OF_STORAGE = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOTADB,
    }
)


class UnusableDatabaseError(RuntimeError):
    """The database cannot be used. The text names the file, what is wrong and what to do."""


def remedy(error: BaseException) -> str | None:
    """Returns what an operator can do about an error, if anything is known to help."""
    return _REMEDIES.get(str(error))


def is_of_storage(error: BaseException) -> bool:
    """Whether the disk or the file is to blame, rather than what was asked of it."""
    # An extended code is a primary one with more in its higher bytes.
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF in _OF_STORAGE


@contextmanager
def unusable(path: Path) -> Iterator[None]:
    """Turns what SQLite says about the file into UnusableDatabaseError."""
    try:
        yield
    except sqlite3.Error as error:
        # A full disk shows as an I/O error where SQLite maps memory.
        help_ = _FREE_SPACE if _is_full(path) else remedy(error)
        raise UnusableDatabaseError(f"{path}: {error}" + (f": {help_}" if help_ else "")) from error


def _is_full(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NEEDED

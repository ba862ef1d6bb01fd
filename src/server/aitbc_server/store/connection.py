"""Opens SQLite the way the coordinator needs it.

All of the process uses one copy of SQLite: closing a file that another copy has open would drop its
locks (https://sqlite.org/howtocorrupt.html, section 2.2). sqlite-utils prefers pysqlite3 when it is
installed, and so does this module.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from aitbc_server.store.directory import in_turn

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["SqliteTooOldError", "connect", "sqlite3"]

# The WAL-reset bug can lose committed data: https://sqlite.org/wal.html#walresetbug
_FIXED = (3, 51, 3)
_BACKPORTS = ((3, 44, 6), (3, 50, 7))
# How long a statement waits for another process that writes.
_BUSY_MS = 5000

# More than there are, those of migrations included. A full cache of pysqlite3 keeps what was used
# most, and lets each new statement push out the newest: all are prepared again at every use.
_CACHED_STATEMENTS = 1024


class SqliteTooOldError(RuntimeError):
    """The SQLite at hand can lose committed data."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Returns a connection in autocommit mode, usable from any one thread at a time.

    Raises SqliteTooOldError, and sqlite3.Error when the file cannot be opened.
    """
    _check_version(sqlite3.sqlite_version_info)
    if not read_only and not path.exists():
        # Prompts, results and secrets of webhooks: SQLite gives its other files the same mode.
        # A directory that cannot be written is SQLite's to complain about.
        with contextlib.suppress(OSError):
            path.touch(mode=0o600)
    uri = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_MS / 1000,
        cached_statements=_CACHED_STATEMENTS,
    )
    if not read_only:
        # SQLite does not wait for another process that changes the mode of a new file at once.
        with in_turn(path.parent):
            connection.execute("PRAGMA journal_mode = WAL")
    # Every commit is on disk before it is answered.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    # What is deleted is overwritten with zeros, in pages that become free too.
    connection.execute("PRAGMA secure_delete = ON")
    # The guards of the statements are the truth here; checking each row again costs a look-up.
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def empty_log(connection: sqlite3.Connection, *, patience_ms: int = 0) -> bool:
    """Copies the log back and leaves nothing in it; says whether nobody was in the way.

    Waits so long for who reads an older state, and every writer waits with it.
    """
    connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
    try:
        row = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return not row[0]


def _check_version(version: tuple[int, ...]) -> None:
    if version >= _FIXED:
        return
    if any(version[:2] == fixed[:2] and version >= fixed for fixed in _BACKPORTS):
        return
    found = ".".join(map(str, version))
    raise SqliteTooOldError(
        f"SQLite {found} can lose committed data (https://sqlite.org/wal.html#walresetbug); "
        "install pysqlite3 >= 0.6.1, or Python with SQLite >= 3.51.3"
    )

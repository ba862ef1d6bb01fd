"""Copies a database to a file while a coordinator serves from it, and brings such a copy back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from aitbc_server.ledger.keys import DIRECTORY as KEYS_DIRECTORY
from aitbc_server.ledger.keys import read_key_files, write_key_files
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.directory import FILE_NAME, locked, sync
from aitbc_server.store.failures import unusable
from aitbc_server.store.schema import applied

_REPLACED = f"{FILE_NAME}.replaced"


class BackupError(RuntimeError):
    """A copy cannot be made or brought back. The text says why, and what to do."""


def back_up(directory: Path, destination: Path) -> int:
    """Writes the database as of one moment into a new file; returns the file's size in bytes.

    The keys that sign the ledger go into the file too: without them a copy could not go on.
    The file appears whole and checked, or not at all. Raises BackupError, OSError,
    SqliteTooOldError and UnusableDatabaseError.
    """
    source = directory / FILE_NAME
    if not source.exists():
        raise BackupError(f"{source} does not exist: name the coordinator's directory with --data")
    with _written(destination) as partial:
        _copy(source, partial)
        _put_keys(partial, read_key_files(directory))
        _check(partial)
        # Never onto an existing file, also not one that appeared since.
        _publish(partial, destination)
    return destination.stat().st_size


def restore(source: Path, directory: Path, *, replace: bool) -> Path | None:
    """Makes a copy the database of a directory from which no coordinator serves.

    With `replace`, a database that is there is kept beside it; returns its path then. Raises
    BackupError, OSError, SqliteTooOldError and UnusableDatabaseError.
    """
    if not source.is_file():
        raise BackupError(f"{source} is no file: name one that `aitbc-coordinator backup` made")
    database, kept = directory / FILE_NAME, directory / _REPLACED
    with locked(directory):
        if database.exists() and not replace:
            raise BackupError(
                f"{database} exists: give another --data, or --replace to put the backup in its "
                f"place and keep it as {kept.name}"
            )
        if database.exists() and kept.exists():
            raise BackupError(f"{kept} is left from an earlier restore: move it away first")
        with _written(database) as partial:
            _copy(source, partial)
            keys = _take_keys(partial)
            _check(partial)
            is_replaced = database.exists()
            # Before the database, which stays where it is when the keys cannot be moved.
            if keys and keys != read_key_files(directory):
                _set_aside_keys(directory)
                write_key_files(directory, keys)
            if is_replaced:
                _set_aside(database, kept)
            os.replace(partial, database)
            sync(directory)
    return kept if is_replaced else None


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """Gives an empty file beside `path`, only for its owner; removes what is left of it."""
    partial = path.with_name(f"{path.name}.partial")
    if not path.parent.is_dir():
        raise BackupError(f"{path.parent} is no directory: make it first")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise BackupError(
            f"{partial} is left from an attempt that was cut off: remove it"
        ) from None
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copies all pages as of one moment, and leaves a file that is whole by itself."""
    with (
        unusable(source),
        closing(connect(source, read_only=True)) as before,
        closing(sqlite3.connect(target, isolation_level=None)) as after,
    ):
        if not applied(before):
            raise BackupError(f"{source} is no database of a coordinator")
        before.backup(after)
        # The copy says of itself that it has a write-ahead log, which it does not need.
        after.execute("PRAGMA journal_mode = DELETE")


def _put_keys(path: Path, files: Mapping[str, bytes]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("CREATE TABLE backup_ledger_keys (name TEXT PRIMARY KEY, text BLOB) STRICT")
        copy.executemany("INSERT INTO backup_ledger_keys VALUES (?1, ?2)", files.items())


def _take_keys(path: Path) -> dict[str, bytes]:
    find = "SELECT 1 FROM sqlite_schema WHERE name = 'backup_ledger_keys'"
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        if not copy.execute(find).fetchone():
            return {}
        files = dict(copy.execute("SELECT name, text FROM backup_ledger_keys"))
        copy.execute("PRAGMA secure_delete = ON")
        copy.execute("DROP TABLE backup_ledger_keys")
        return files


def _set_aside_keys(directory: Path) -> None:
    keys, kept = directory / KEYS_DIRECTORY, directory / f"{KEYS_DIRECTORY}.replaced"
    if kept.exists():
        raise BackupError(f"{kept} is left from an earlier restore: move it away first")
    if keys.exists():
        keys.rename(kept)


def _check(path: Path) -> None:
    with unusable(path), closing(connect(path, read_only=True)) as connection:
        (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if problem != "ok":
            raise BackupError(f"the copy is damaged, and so may be what it was made of: {problem}")
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _publish(partial: Path, destination: Path) -> None:
    try:
        destination.hardlink_to(partial)
    except FileExistsError:
        raise BackupError(f"{destination} exists: name a file that does not") from None
    sync(destination.parent)


def _set_aside(database: Path, kept: Path) -> None:
    # With its log: a killed coordinator leaves commits there. SQLite finds it by the name.
    for suffix in ("-wal", "-shm", ""):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.replace(kept.with_name(kept.name + suffix))

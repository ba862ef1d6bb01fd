"""The directory of a coordinator's data: what is in it, and the lock that one process holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_NAME = "coordinator.db"
_LOCK_NAME = "coordinator.lock"


class DataInUseError(OSError):
    """Another process serves from the same directory."""


def lock(directory: Path) -> int:
    """Makes the directory; returns the open file that keeps others out for as long as it is open.

    The dispatcher's memory is the authority on live jobs: two of them would give out one job twice.
    Raises OSError, and DataInUseError when another process holds the lock.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise DataInUseError(
            f"another coordinator serves from {directory}: stop it, or give another --data"
        ) from None
    return file


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps others out of the directory meanwhile. Raises as `lock` does."""
    file = lock(directory)
    try:
        yield
    finally:
        os.close(file)


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Waits for others who do what one process at a time may do, for a moment."""
    file = _open(directory)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def sync(directory: Path) -> None:
    """Puts on disk which files the directory has."""
    file = _open(directory)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _open(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

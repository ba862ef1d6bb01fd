"""Answers reads on a connection of its own, beside the writer. Runs on the reader's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.failures import remedy

_log = structlog.get_logger(__name__)

# A read with its arguments, bound to the connection that reads.
Read = Callable[[], Any]


def run_reads(batch: Sequence[Read]) -> Sequence[Any]:
    """Runs each read; returns its result or exception."""
    return [_one(read) for read in batch]


def _one(read: Read) -> Any:
    try:
        return read()
    except sqlite3.Error as error:
        _log.error("store.read_failed", error=str(error), remedy=remedy(error))
        return StorageUnavailable(retry_after_s=1)

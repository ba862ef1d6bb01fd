"""Answers reads on a connection of its own, beside the writer. Runs on the reader's thread.

Each read stands alone: what one raises, a domain error too, is its own answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import JobPage, JobRecord
from aitbc_server.store.batch import LATER
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.failures import remedy

_log = structlog.get_logger(__name__)

# A read with its arguments, bound to the connection that reads.
Read = Callable[[], Any]


# Texts after which the rest of a batch is left for the next one: they are in memory until whoever
# asked for them has taken them, and all of a batch is taken in one turn of the loop.
_BATCH_BYTES = 8 * 1024 * 1024
# Likewise of jobs on pages, each of which is made a message then.
_BATCH_JOBS = 200


def run_reads(batch: Sequence[Read]) -> Sequence[Any]:
    """Runs each read; returns its result or exception, or that it is left for later."""
    results: list[Any] = []
    size = jobs = 0
    for read in batch:
        if size >= _BATCH_BYTES or jobs >= _BATCH_JOBS:
            results.append(LATER)
            continue
        results.append(_one(read))
        size += _size_of(results[-1])
        jobs += len(results[-1].records) if isinstance(results[-1], JobPage) else 1
    return results


def _size_of(result: Any) -> int:
    if isinstance(result, JobRecord):
        return len(result.spec) + len(result.result or "") + len(result.details or b"")
    if isinstance(result, JobPage):
        return sum(map(_size_of, result.records))
    if isinstance(result, bytes):
        return len(result)
    if isinstance(result, dict):
        return sum(len(value) for value in result.values() if type(value) is bytes)
    return 0


def _one(read: Read) -> Any:
    try:
        return read()
    except sqlite3.Error as error:
        _log.error("store.read_failed", error=str(error), remedy=remedy(error))
        return StorageUnavailable(retry_after_s=1)
    except BaseException as error:
        # Of the domain, or a bug: the edge tells them apart, and logs the bug.
        return error

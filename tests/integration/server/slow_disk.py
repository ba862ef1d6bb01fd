"""A store whose writes wait until the test says what becomes of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.store.batch import Run
from aitbc_server.store.sqlite import SqliteStore
from tests.integration.server.harness import PATIENCE_S


class SlowDisk:
    """The writer of a store, between its queue and its disk."""

    def __init__(self, run: Run, kind: type[Any]) -> None:
        self._run = run
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._begun = asyncio.Event()
        self._goes_on = threading.Event()
        self._is_refused = False

    def run(self, batch: Sequence[Any]) -> Sequence[Any]:
        if not any(isinstance(operation, self._kind) for operation in batch):
            return self._run(batch)
        self._loop.call_soon_threadsafe(self._begun.set)
        self._goes_on.wait(PATIENCE_S)
        if self._is_refused:
            return [StorageUnavailable(retry_after_s=1) for _ in batch]
        return self._run(batch)

    async def begun(self) -> None:
        """Returns when such a write is under way."""
        async with asyncio.timeout(PATIENCE_S):
            await self._begun.wait()

    def go_on(self, *, is_refused: bool = False) -> None:
        """Lets what is under way, and what follows, be stored or refused."""
        self._is_refused = is_refused
        self._goes_on.set()


@contextmanager
def slow_disk(store: SqliteStore, kind: type[Any] = object) -> Iterator[SlowDisk]:
    """Has the store's writes of a kind wait; afterwards they are as they were."""
    writes = store._writes
    run = writes._run
    disk = SlowDisk(run, kind)
    writes._run = disk.run
    try:
        yield disk
    finally:
        disk.go_on()
        writes._run = run

"""Deletes files and batches whose time is over, and the content of files that are deleted."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Protocol

import structlog

from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)

# How soon what is over time is found.
_SWEEP_S = 30.0
# Parts of files, and batches, that one commit deletes: it stays short.
_PARTS = 4
_BATCHES = 100


class Files(Protocol):
    """What is needed of the store of files."""

    def expire(self, now_us: int) -> Future[int]:
        """Deletes some of the files whose time is over; returns how many."""
        ...

    def drop_parts(self, most: int) -> Future[int]:
        """Deletes so many parts at most of what is deleted; returns how many."""
        ...


class Batches(Protocol):
    """What is needed of the store of batches."""

    def drop(self, before_us: int, most: int) -> Future[int]:
        """Deletes so many batches at most that ended before a time; returns how many."""
        ...


class FileSweep:
    """Starts and stops with the coordinator."""

    def __init__(
        self,
        files: Files,
        batches: Batches,
        clock: Clock,
        erased: Callable[[], None],
        *,
        keep_s: float | None,
    ) -> None:
        """`erased` is told when content was deleted; `keep_s`: how long ended batches are kept."""
        self._files = files
        self._batches = batches
        self._clock = clock
        self._erased = erased
        self._keep_s = keep_s
        self._is_due = asyncio.Event()
        self._is_due.set()
        self._task: asyncio.Task[None] | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Begins."""
        self._task = supervisor.keep("file-sweep", self._sweep_each)

    def dropped(self) -> None:
        """Says that a file was deleted."""
        self._is_due.set()

    async def stop(self) -> None:
        """Ends. What is left is left to the next start."""
        if self._task is not None:
            await end([self._task])

    async def _sweep_each(self) -> None:
        while True:
            self._is_due.clear()
            try:
                await self._sweep()
            except CoordinatorError as error:
                # It is still there, and a later sweep finds it.
                _log.warning("files.broken_off", problem=str(error))
            try:
                async with asyncio.timeout(_SWEEP_S):
                    await self._is_due.wait()
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        now_us = self._clock.wall_us()
        while await self._files.expire(now_us):
            pass
        if self._keep_s is not None:
            before_us = now_us - int(self._keep_s * 1e6)
            while await self._batches.drop(before_us, _BATCHES):
                pass
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            count = await self._files.drop_parts(_PARTS)
            if count:
                self._erased()
            if count < _PARTS:
                return
            # The writer is others' meanwhile.
            await asyncio.sleep(loop.time() - began)

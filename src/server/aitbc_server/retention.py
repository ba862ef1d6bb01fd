"""Forgets jobs that are old enough, and leaves nothing of what was forgotten in the files.

Those that are not kept are old enough as soon as whoever waits for them has had the time to read.

Both go on beside everything else, through the one writer: in small commits, with pauses between
them that leave most of its time to others.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.domain.jobs import OldJobs
from aitbc_server.domain.times import rfc3339
from aitbc_server.store.forgetting import batches
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)

# How soon a job that is old enough is found, and how soon what was deleted leaves the files.
_SWEEP_S = 60.0
_ERASE_S = 10.0
# The same of jobs that are not kept, and how long after their end. All of it, with the time until
# they leave the files, is less than the minute that is promised.
_UNKEPT_SWEEP_S = 5.0
_UNKEPT_S = 30.0
# How soon what the store refused is tried again.
_RETRY_S = 5.0
# Times as long as a commit took, waiting for its turn included, that the next one waits.
_PAUSE = 1


class Jobs(Protocol):
    """What is needed of the store."""

    def old_jobs(self, before_us: int, *, after: str = "") -> Future[OldJobs]:
        """Returns jobs that became final before a time: the first of those after a job id."""
        ...

    def unkept_jobs(self, before_us: int) -> Future[dict[str, int]]:
        """Returns the first of those that are not kept and became final before a time."""
        ...

    def forget(self, job_ids: Sequence[str]) -> Future[frozenset[str]]:
        """Deletes jobs that are final; returns their ids."""
        ...

    def erase(self) -> Future[bool]:
        """Leaves nothing in the files of what was deleted; says whether that could be done now."""
        ...


class Retention:
    """Starts and stops with the coordinator."""

    def __init__(self, jobs: Jobs, clock: Clock, *, keep_s: float) -> None:
        """`keep_s`: how long final jobs are kept; 0 is for ever."""
        self._jobs = jobs
        self._clock = clock
        self._keep_s = keep_s
        # Set when the files may hold what was deleted. So they may after a crash.
        self._is_deleted = asyncio.Event()
        self._is_deleted.set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, supervisor: Supervisor) -> None:
        """Begins."""
        self._tasks.append(supervisor.keep("retention-erase", self._erase_each))
        self._tasks.append(supervisor.keep("retention-unkept", self._sweep_unkept_each))
        if self._keep_s:
            self._tasks.append(supervisor.keep("retention-sweep", self._sweep_each))

    def forgotten(self) -> None:
        """Says that jobs were forgotten, by whomever."""
        self._is_deleted.set()

    async def stop(self) -> None:
        """Ends. What is left of a sweep is left to the next start."""
        await end(self._tasks)

    async def _sweep_each(self) -> None:
        while True:
            pause_s = _SWEEP_S
            try:
                await self._sweep(self._clock.wall_us() - int(self._keep_s * 1e6))
            except CoordinatorError as error:
                pause_s = _RETRY_S
                _broken_off(error)
            await asyncio.sleep(min(pause_s, self._keep_s))

    async def _sweep_unkept_each(self) -> None:
        while True:
            try:
                before_us = self._clock.wall_us() - int(_UNKEPT_S * 1e6)
                while await self._forget(await self._jobs.unkept_jobs(before_us)):
                    pass
            except CoordinatorError as error:
                _broken_off(error)
            await asyncio.sleep(_UNKEPT_SWEEP_S)

    async def _sweep(self, before_us: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        forgotten = 0
        after: str | None = ""
        try:
            while after is not None:
                old = await self._jobs.old_jobs(before_us, after=after)
                forgotten += await self._forget(old.sizes)
                after = old.next_after
        finally:
            if forgotten:
                _log.info(
                    "retention.swept",
                    jobs=forgotten,
                    finished_before=rfc3339(before_us),
                    seconds=round(loop.time() - began, 3),
                )

    async def _forget(self, sizes: Mapping[str, int]) -> int:
        """Forgets jobs, with the bytes of each; returns how many there were."""
        loop = asyncio.get_running_loop()
        forgotten = 0
        for batch in batches(sizes):
            put = loop.time()
            forgotten += len(await self._jobs.forget(batch))
            await asyncio.sleep(_PAUSE * (loop.time() - put))
        return forgotten

    async def _erase_each(self) -> None:
        while True:
            await self._is_deleted.wait()
            # All of a moment together: emptying the log is as dear for one as for many.
            await asyncio.sleep(_ERASE_S)
            self._is_deleted.clear()
            is_erased = False
            try:
                with suppress(CoordinatorError):
                    is_erased = await self._jobs.erase()
            finally:
                if not is_erased:
                    self._is_deleted.set()


def _broken_off(error: CoordinatorError) -> None:
    # The jobs are still there, and a later sweep finds them.
    _log.warning("retention.broken_off", error=type(error).__name__, problem=str(error))

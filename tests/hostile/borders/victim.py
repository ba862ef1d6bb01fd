"""What every attacked coordinator is asked, whatever attacked it."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import psutil
from scripts.processes import Coordinator

from tests.conftest import Launcher
from tests.hostile.victim import MIB

Attack = Callable[[random.Random], Awaitable[None]]
Border = Callable[[Launcher], AbstractAsyncContextManager[Attack]]

# All attacks of a run together, however long it is.
MOST_MORE_MIB = 200
# A turn of the loop. Machines that run tests are busy.
MOST_TURN_S = 1.5
# Attacks between two looks at the victim.
_EVERY = 50
# What a coordinator logs when something happened that nobody thought of.
_BROKEN = re.compile(r"Traceback|call_failed|call\.failed|_broke\b|write_rejected|Exception in")


class Watched:
    """A coordinator under attack."""

    def __init__(self, coordinator: Coordinator, api: httpx.AsyncClient) -> None:
        self.coordinator = coordinator
        self.api = api
        self._process = psutil.Process(coordinator.program.pid)
        self._before = self._process.memory_info().rss
        self._attacks = 0

    async def attacked(self) -> None:
        """Counts an attack, and looks at what became of the victim now and then."""
        self._attacks += 1
        if self._attacks % _EVERY == 0:
            await self.check()

    async def check(self) -> None:
        """Asserts that it serves, that nothing broke in it, and that it stayed small and quick."""
        program = self.coordinator.program
        assert program.exit_status is None, program.tail()
        assert (await self.api.get("/health/live")).status_code == 200
        broken = _BROKEN.search(program.log.read_text(errors="replace"))
        assert broken is None, program.tail(60)
        more_mib = (self._process.memory_info().rss - self._before) / MIB
        assert more_mib < MOST_MORE_MIB
        metrics = (await self.api.get("/metrics")).text
        longest = re.search(r"^aitbc_loop_longest_turn_seconds (\S+)$", metrics, re.MULTILINE)
        assert longest is not None
        assert float(longest[1]) < MOST_TURN_S, program.tail()


@asynccontextmanager
async def watched(coordinator: Coordinator) -> AsyncIterator[Watched]:
    """Watches a coordinator, and checks it a last time at the end."""
    async with httpx.AsyncClient(base_url=coordinator.url, timeout=60) as api:
        await api.get("/health")
        one = Watched(coordinator, api)
        yield one
        await one.check()

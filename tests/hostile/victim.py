"""The coordinator under attack, and what the attack costs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import psutil
from scripts.processes import Coordinator

MIB = 1024 * 1024
# While an attack lasts, the health page is asked so often.
_EVERY_S = 0.05


class Cost:
    """What an attack cost, while it lasted."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before = self._rss()
        # MiB above what it had before.
        self.most_mib = 0.0
        # Seconds that the health page took.
        self.health_s: list[float] = []

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def look(self) -> None:
        """Notes what is in memory now."""
        self.most_mib = max(self.most_mib, self.now_mib)

    @property
    def now_mib(self) -> float:
        """MiB above what it had before, now."""
        return (self._rss() - self._before) / MIB


@asynccontextmanager
async def cost_of(coordinator: Coordinator) -> AsyncIterator[Cost]:
    """Watches a coordinator while an attack lasts."""
    cost = Cost(psutil.Process(coordinator.program.pid))

    async def ask(api: httpx.AsyncClient) -> None:
        begun = time.monotonic()
        answer = await api.get("/health")
        cost.health_s.append(time.monotonic() - begun)
        assert answer.status_code == 200
        cost.look()

    async def watch(api: httpx.AsyncClient) -> None:
        while True:
            await ask(api)
            await asyncio.sleep(_EVERY_S)

    async with httpx.AsyncClient(base_url=coordinator.url, timeout=60) as api:
        await api.get("/health")
        watching = asyncio.create_task(watch(api))
        try:
            yield cost
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await ask(api)

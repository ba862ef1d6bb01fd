"""Removes miners that nobody has heard of for long, and stores when the others were heard of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)

# How soon one that was silent for long enough is found, at most.
_SWEEP_S = 3600.0
# How soon what the store refused is tried again.
_RETRY_S = 60.0


class MinerExpiry:
    """Starts and stops with the coordinator."""

    def __init__(
        self, expire: Callable[[int], Awaitable[int]], clock: Clock, *, keep_s: float
    ) -> None:
        """`expire` removes those silent since a time; `keep_s`: how long that is, 0 for ever."""
        self._expire = expire
        self._clock = clock
        self._keep_s = keep_s
        self._task: asyncio.Task[None] | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Begins."""
        if self._keep_s:
            self._task = supervisor.keep("miner-expiry", self._sweep_each)

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            await end([self._task])

    async def _sweep_each(self) -> None:
        while True:
            pause_s = _SWEEP_S
            try:
                removed = await self._expire(self._clock.wall_us() - int(self._keep_s * 1e6))
                if removed:
                    _log.info("miners.expired", miners=removed)
            except CoordinatorError as error:
                # They are still there, and a later sweep finds them.
                pause_s = _RETRY_S
                _log.warning("miners.expiry_failed", error=type(error).__name__, problem=str(error))
            await asyncio.sleep(min(pause_s, self._keep_s))

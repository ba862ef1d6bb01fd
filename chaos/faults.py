"""What goes wrong, when: one fault after the other, chosen and timed by a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from chaos.cluster import Cluster

# Share of the connections that a network fault meets.
_SHARE = 0.5
# Times that faults last.
_DELAY_S = 0.15
_SHORT_S = (0.3, 1.5)
_LONG_S = (1.0, 3.0)
_STEPS_US = (1_000_000, 3_600_000_000)

KILLS = frozenset({"kill coordinator", "kill recording miner", "kill echo miner", "kill both"})

_Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """Breaks a cluster."""

    def __init__(self, cluster: Cluster, rng: random.Random, *, pause_s: float) -> None:
        """`pause_s`: mean time between the end of a fault and the next."""
        self._cluster = cluster
        self._rng = rng
        self._pause_s = pause_s
        self.injected: Counter[str] = Counter()
        # (fault, how often it is chosen)
        self._faults: dict[str, tuple[_Fault, int]] = {
            "kill coordinator": (cluster.kill_coordinator, 6),
            "kill recording miner": (lambda: cluster.kill_miner("recording"), 4),
            "kill echo miner": (lambda: cluster.kill_miner("echo"), 2),
            "kill both": (cluster.kill_both, 2),
            "pause coordinator": (self._pause_coordinator, 1),
            "cut connections": (self._network("cut"), 2),
            "black-hole connections": (self._network("black_hole"), 2),
            "half-open connections": (self._network("half_open"), 2),
            "stall connections": (self._stall, 2),
            "delay everything": (self._delay, 1),
            "step the clock": (self._step_clock, 2),
            "fill the disk": (self._fill_disk, 2),
        }
        if cluster.disk is None:
            del self._faults["fill the disk"]
        if not cluster.has_miners("echo"):
            del self._faults["kill echo miner"]

    @property
    def kills(self) -> int:
        """Processes killed so far."""
        return sum(self.injected[name] for name in KILLS) + self.injected["kill both"]

    async def run(self, stop: asyncio.Event) -> None:
        """Breaks one thing after the other, and mends what it broke."""
        names = list(self._faults)
        weights = [weight for _, weight in self._faults.values()]
        while not stop.is_set():
            (name,) = self._rng.choices(names, weights)
            fault, _ = self._faults[name]
            await fault()
            self.injected[name] += 1
            await asyncio.sleep(self._rng.expovariate(1 / self._pause_s))

    def _network(self, what: str) -> _Fault:
        async def break_it() -> None:
            proxy = self._rng.choice(self._cluster.proxies)
            getattr(proxy, what)(_SHARE)

        return break_it

    async def _stall(self) -> None:
        seconds = self._rng.uniform(*_LONG_S)
        for proxy in self._cluster.proxies:
            proxy.stall(seconds, _SHARE)

    async def _delay(self) -> None:
        for proxy in self._cluster.proxies:
            proxy.delay_s = _DELAY_S
        await asyncio.sleep(self._rng.uniform(*_SHORT_S))
        for proxy in self._cluster.proxies:
            proxy.delay_s = 0.0

    async def _pause_coordinator(self) -> None:
        await self._cluster.pause_coordinator(self._rng.uniform(*_LONG_S))

    async def _step_clock(self) -> None:
        step_us = self._rng.randint(*_STEPS_US)
        self._cluster.clock.step(self._rng.choice([-step_us, step_us]))

    async def _fill_disk(self) -> None:
        disk = self._cluster.disk
        assert disk is not None  # noqa: S101 - the fault is left out without one
        disk.fill()
        try:
            await asyncio.sleep(self._rng.uniform(*_SHORT_S))
            if self._rng.random() < 0.3:
                # A crash is no excuse either.
                await asyncio.to_thread(self._cluster.coordinator.program.kill)
                self.injected["kill coordinator"] += 1
                start = asyncio.create_task(self._cluster.start_coordinator())
                await asyncio.sleep(self._rng.uniform(*_LONG_S))
                disk.free()
                await start
        finally:
            disk.free()

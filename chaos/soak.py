"""Runs a coordinator with many echo miners for a while, and says whether its memory grew.

Jobs go through all the time. After a warm-up, in which caches fill, the memory of each minute (the
median of a look a second) must stay within a tenth of the first minute's. Exits with 1 when it does
not, or when a job is not completed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
from rich.console import Console
from scripts.processes import Coordinator, Program, start_coordinator

from chaos.cluster import clean_environment
from chaos.miner import MODEL

_MIB = 1024 * 1024
_TOLERANCE = 0.10
_BATCH = 20
_CONNECT_S = 120
_DRAIN_S = 60
_MINUTE_S = 60
_PROMPT = "The quick brown fox jumps over the lazy dog. " * 8


async def soak(arguments: argparse.Namespace, directory: Path, console: Console) -> bool:
    """Runs the soak; says whether all was well."""
    coordinator = start_coordinator(
        data=directory / "data", log=directory / "coordinator.log", env=clean_environment()
    )
    argv: list[str | Path] = [sys.executable, "-m", "chaos.herd", coordinator.grpc]
    herd = Program(
        [*argv, str(arguments.miners)], log=directory / "herd.log", env=clean_environment()
    )
    try:
        async with httpx.AsyncClient(base_url=coordinator.url, timeout=30) as api:
            await _until(api, lambda stats: stats["miners"]["online"] == arguments.miners)
            console.print(f"{arguments.miners} miners are connected")
            return await _Soak(arguments, coordinator, api, console).run()
    finally:
        herd.kill()
        coordinator.program.kill()


class _Soak:
    def __init__(
        self,
        arguments: argparse.Namespace,
        coordinator: Coordinator,
        api: httpx.AsyncClient,
        console: Console,
    ) -> None:
        self._arguments = arguments
        self._process = psutil.Process(coordinator.program.pid)
        self._api = api
        self._console = console
        self._submitted = 0
        # Jobs a second.
        self._rate = arguments.warm_up_rate

    async def run(self) -> bool:
        load = asyncio.create_task(self._load())
        warm_up = await self._minutes(self._arguments.warm_up, "warm-up")
        self._rate = self._arguments.rate
        minutes = await self._minutes(self._arguments.minutes, "minute")
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load
        stats = await _until(self._api, lambda stats: _live(stats) == 0, timeout_s=_DRAIN_S)
        largest = max(abs(one / minutes[0] - 1) for one in minutes)
        completed = stats["jobs"]["completed"]
        self._console.print(
            f"{self._arguments.miners} miners, {completed} of {self._submitted} jobs completed in "
            f"{len(warm_up) + len(minutes)} minutes.\n"
            f"Memory of the coordinator: {minutes[0]:.1f} MiB in the first minute after the "
            f"warm-up, {minutes[-1]:.1f} MiB in the last; furthest from the first: {largest:.1%}."
        )
        is_good = largest <= _TOLERANCE and completed == self._submitted
        self._console.print("Verdict: [green]flat[/]" if is_good else "Verdict: [red]bad[/]")
        return is_good

    async def _load(self) -> None:
        jobs = [{"prompt": _PROMPT, "model": MODEL}] * _BATCH
        due = time.monotonic()
        while True:
            response = await self._api.post("/v1/jobs:batch", json={"jobs": jobs})
            response.raise_for_status()
            self._submitted += _BATCH
            due = max(due + _BATCH / self._rate, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _minutes(self, count: int, name: str) -> list[float]:
        """Returns the memory of each of the next minutes, in MiB."""
        found = []
        for number in range(1, count + 1):
            looks = []
            for _ in range(_MINUTE_S):
                looks.append(self._process.memory_info().rss / _MIB)
                await asyncio.sleep(1)
            found.append(median(looks))
            self._console.print(
                f"{name} {number} of {count}: {found[-1]:.1f} MiB, {self._submitted} jobs so far"
            )
        return found


async def _until(api: httpx.AsyncClient, is_so: Any, timeout_s: float = _CONNECT_S) -> Any:
    """Returns the statistics as soon as they are as wanted. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            stats = (await api.get("/v1/stats")).json()
            if is_so(stats):
                return stats
            await asyncio.sleep(0.2)


def _live(stats: Any) -> int:
    return int(stats["jobs"]["pending"] + stats["jobs"]["running"])


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--miners", type=int, default=500, help="echo miners [%(default)s]")
    parser.add_argument("--minutes", type=int, default=10, help="after the warm-up [%(default)s]")
    parser.add_argument("--warm-up", type=int, default=2, help="minutes [%(default)s]")
    parser.add_argument("--rate", type=float, default=50, help="jobs a second [%(default)s]")
    parser.add_argument(
        "--warm-up-rate",
        type=float,
        default=300,
        help="jobs a second until then: enough to fill SQLite's page cache [%(default)s]",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitbc-soak-") as directory:
        return 0 if asyncio.run(soak(arguments, Path(directory), Console())) else 1


if __name__ == "__main__":
    sys.exit(main())

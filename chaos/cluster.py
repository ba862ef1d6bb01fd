"""The system under test: a coordinator, miners of both kinds, and the bad network between them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from scripts.processes import (
    BIN,
    Coordinator,
    Program,
    ProgramFailed,
    start_coordinator,
    start_miner,
)

from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME
from chaos.coordinator import BUG_VARIABLE, CLOCK_VARIABLE, ClockFile
from chaos.disk import Disk, NoDiskError
from chaos.history import Receipted, now
from chaos.miner import MODEL
from chaos.proxy import Proxy

# Short, so that a run meets many expiries; the rules are the same at any length.
LEASE_S = 2.0
_SETTINGS = {
    "AITBC_LEASE_SECONDS": str(LEASE_S),
    "AITBC_HEARTBEAT_SECONDS": "0.5",
    "AITBC_LOG_LEVEL": "warning",
}
# A start may fail while the disk is full; whatever runs a coordinator would try again.
_STARTS = 60
_START_AGAIN_S = 0.5


@dataclass(slots=True)
class _Miner:
    """How to start a miner, and the present one."""

    start: Callable[[], Program]
    program: Program


class Cluster:
    """Everything that runs, and what kills it and brings it back."""

    def __init__(self, directory: Path, rng: random.Random, *, seed: str, bug: str | None) -> None:
        self.directory = directory
        self._rng = rng
        self._seed = seed
        self.clock = ClockFile(directory / "clock")
        self.disk = _disk(directory / "disk")
        self._data = (self.disk.path if self.disk else directory) / "data"
        clean = clean_environment()
        self._miner_env: Mapping[str, str] = clean
        self._env = clean | _SETTINGS | {CLOCK_VARIABLE: str(directory / "clock")}
        if bug is not None:
            self._env |= {BUG_VARIABLE: bug}
        self.failed_starts = 0
        self._coordinator: Coordinator | None = None
        self._miners: dict[str, _Miner] = {}
        self.proxies: tuple[Proxy, Proxy]

    @property
    def coordinator(self) -> Coordinator:
        """The coordinator that runs, or ran last."""
        assert self._coordinator is not None, "not started"  # noqa: S101 - narrows the type
        return self._coordinator

    @property
    def grpc(self) -> str:
        """Address of gRPC through the bad network."""
        return f"127.0.0.1:{self.proxies[0].port}"

    @property
    def url(self) -> str:
        """Base URL of REST through the bad network."""
        return f"http://127.0.0.1:{self.proxies[1].port}"

    def histories(self) -> list[Path]:
        """Returns the files that were recorded."""
        return sorted(self.directory.glob("*.jsonl"))

    # Starting

    async def start(self, *, recording: int, echoes: int) -> None:
        """Starts the coordinator, the proxies, and so many miners of each kind."""
        await self.start_coordinator()
        grpc, http = (
            Proxy("127.0.0.1", int(address.rpartition(":")[2]), self._rng)
            for address in (self.coordinator.grpc, self.coordinator.http)
        )
        self.proxies = (grpc, http)
        await grpc.start()
        await http.start()
        for number in range(recording):
            self._add_miner(f"recording-{number}", self._start_recording)
        for number in range(echoes):
            self._add_miner(f"echo-{number}", self._start_echo)

    async def start_coordinator(self) -> None:
        """Starts the coordinator, again on the same ports and data if it ran before."""
        before = self._coordinator
        for _ in range(_STARTS):
            try:
                self._coordinator = await asyncio.to_thread(
                    start_coordinator,
                    data=self._data,
                    log=self.directory / "coordinator.log",
                    http=before.http if before else "127.0.0.1:0",
                    grpc=before.grpc if before else "127.0.0.1:0",
                    env=self._env,
                    command=(sys.executable, "-m", "chaos.coordinator"),
                )
            except ProgramFailed as failure:
                self.failed_starts += 1
                last = failure
                await asyncio.sleep(_START_AGAIN_S)
            else:
                return
        raise last

    def _add_miner(self, name: str, start: Callable[[str], Program]) -> None:
        self._miners[name] = _Miner(lambda: start(name), start(name))

    def _start_recording(self, name: str) -> Program:
        history = self.directory / f"{name}.jsonl"
        argv: list[str | Path] = [sys.executable, "-m", "chaos.miner", self.grpc, name, history]
        argv += ["--seed", self._seed]
        return Program(argv, log=self.directory / f"{name}.log", env=self._miner_env)

    def _start_echo(self, name: str) -> Program:
        return start_miner(
            self.grpc,
            miner_id=name,
            log=self.directory / f"{name}.log",
            models=[MODEL],
            # Few, so that most work goes to those that record it.
            slots=8,
            options=[
                *("--engine-opt", "latency=0.02"),
                *("--key-file", str(self.directory / f"{name}.pem")),
            ],
            env=self._miner_env,
        )

    # Breaking

    async def kill_coordinator(self) -> None:
        """Kills the coordinator and starts it again."""
        await asyncio.to_thread(self.coordinator.program.kill)
        await self.start_coordinator()

    def has_miners(self, kind: str) -> bool:
        """Says whether there are miners of a kind."""
        return any(name.startswith(kind) for name in self._miners)

    async def kill_miner(self, kind: str) -> None:
        """Kills a miner process of a kind and starts it again."""
        names = [name for name in self._miners if name.startswith(kind)]
        miner = self._miners[self._rng.choice(names)]
        await asyncio.to_thread(miner.program.kill)
        miner.program = miner.start()

    async def kill_both(self) -> None:
        """Kills the coordinator and a miner at once: neither sees the other go."""
        await asyncio.to_thread(self.coordinator.program.kill)
        await self.kill_miner("recording")
        await self.start_coordinator()

    async def pause_coordinator(self, seconds: float) -> None:
        """Stops the coordinator's process, and lets it go on after a while."""
        program = self.coordinator.program
        program.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        program.send(signal.SIGCONT)

    # Ending

    async def stop_coordinator(self) -> int:
        """Ends the coordinator as an operator would; returns its exit status."""
        return await asyncio.to_thread(self.coordinator.program.terminate)

    async def verify_ledger(self) -> tuple[int, str]:
        """Runs `ledger verify` on what a stopped coordinator left; returns status and output."""
        process = await asyncio.create_subprocess_exec(
            *(BIN / "aitbc-coordinator", "ledger", "verify", "--data", self._data),
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode().strip()

    def receipts(self) -> Iterator[Receipted]:
        """Yields the receipts in the ledger of a coordinator that has stopped."""
        with closing(connect(self._data / FILE_NAME, read_only=True)) as database:
            for leaf_index, job_id in database.execute("SELECT leaf_index, job_id FROM receipts"):
                yield Receipted(at=now(), job_id=job_id, leaf_index=leaf_index)

    async def close(self) -> None:
        """Kills whatever runs."""
        for miner in self._miners.values():
            miner.program.kill()
        if self._coordinator is not None:
            self._coordinator.program.kill()
            for proxy in self.proxies:
                await proxy.close()
        if self.disk is not None:
            self.disk.unmount()


def clean_environment() -> dict[str, str]:
    """Returns the environment without settings of a developer's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AITBC_")}


def _disk(path: Path) -> Disk | None:
    try:
        return Disk(path)
    except NoDiskError as error:
        print(f"No full disk in this run: mounting one is not allowed here ({error}).")
        return None

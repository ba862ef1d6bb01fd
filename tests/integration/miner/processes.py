"""Runs the command `aitbc-miner` for a test."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.miner.fake_coordinator import TIMEOUT_S

COMMAND = Path(sys.executable).with_name("aitbc-miner")


class MinerProcess:
    """A miner that runs as users run it."""

    def __init__(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        self.process = process
        self._timeout_s = timeout_s

    async def line(self) -> str:
        """Returns what it prints next on standard output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(self._timeout_s):
            return (await self.process.stdout.readline()).decode().rstrip()

    async def exit_code(self) -> int:
        """Waits for its end."""
        async with asyncio.timeout(self._timeout_s):
            return await self.process.wait()

    async def errors(self) -> str:
        """Waits for its end and returns what it wrote on standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(self._timeout_s):
            return (await self.process.stderr.read()).decode()


@asynccontextmanager
async def miner_process(
    *arguments: str,
    command: Path = COMMAND,
    timeout_s: float = TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[MinerProcess]:
    """Yields a miner that is starting, and kills it when it is still there at the end."""
    inherited = {name: value for name, value in os.environ.items() if "AITBC_" not in name}
    process = await asyncio.create_subprocess_exec(
        command,
        *arguments,
        env={**inherited, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Signals to its process group, as Ctrl-C sends them, spare the test.
        start_new_session=True,
    )
    try:
        yield MinerProcess(process, timeout_s)
    finally:
        if process.returncode is None:
            process.kill()
        # Reads what is left, so that no pipe outlives the test.
        await process.communicate()

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil

from tests.integration.miner.fake_coordinator import TIMEOUT_S
from tests.integration.miner.processes import miner_process

# A program that, like the command, imports the miner's, and spawns as vLLM does.
PROGRAM = """
import multiprocessing, time
import aitbc_miner.cli

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    print(child.pid, flush=True)
    child.join()
"""


async def test_a_killed_miner_leaves_no_engine_behind(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    async with miner_process(str(program), command=Path(sys.executable)) as miner:
        child = psutil.Process(int(await miner.line()))
        miner.process.send_signal(signal.SIGKILL)
        assert await miner.exit_code() == -signal.SIGKILL
        await asyncio.to_thread(child.wait, TIMEOUT_S)

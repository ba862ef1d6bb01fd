"""Many readers of many streams: how late each token comes, and what that costs the coordinator.

`python -m benchmarks.streams`: echo miners say the time of every token, at a rate; a reader of each
job, all in this process, compares it with the time of its arrival.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import uvloop
from rich.console import Console
from rich.table import Table
from scripts.processes import Coordinator, Program, start_coordinator, start_miner

from benchmarks.shape import MODEL, PROMPT

_TEXT = re.compile(rb'"text":"([0-9 ]*)"')
_FINAL = b"event: final"
_BUFFER = 1024 * 1024

console = Console()


class Reader:
    """Follows one job and notes how late its tokens come."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self.first_at = 0.0
        self.messages = 0

    async def read(self, http: str, job_id: str) -> None:
        """Reads to the final event."""
        host, _, port = http.rpartition(":")
        stream, writer = await asyncio.open_connection(host, int(port), limit=_BUFFER)
        writer.write(f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nhost: {http}\r\n\r\n".encode())
        is_over = False
        while not is_over:
            event = await stream.readuntil(b"\n\n")
            now_ms = time.monotonic() * 1000
            is_over = _FINAL in event
            for stamps in _TEXT.findall(event):
                self.messages += 1
                self.delays_ms += [now_ms - int(stamp) for stamp in stamps.split()]
        writer.close()


async def measure(coordinator: Coordinator, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns what the readers saw, and what the coordinator took."""
    job_ids = await asyncio.to_thread(_submit, coordinator.url, arguments.jobs)
    readers = [Reader() for _ in job_ids[: arguments.readers]]
    process = psutil.Process(coordinator.program.pid)
    pairs = zip(readers, job_ids, strict=False)
    reading = [asyncio.create_task(one.read(coordinator.http, job_id)) for one, job_id in pairs]
    # All streams run by then.
    await asyncio.sleep(arguments.seconds / 4)
    before, begun = process.cpu_times(), time.monotonic()
    memory = process.memory_info().rss
    tokens = sum(len(reader.delays_ms) for reader in readers)
    await asyncio.sleep(arguments.seconds / 2)
    seconds = time.monotonic() - begun
    after = process.cpu_times()
    grown = process.memory_info().rss - memory
    tokens = sum(len(reader.delays_ms) for reader in readers) - tokens
    await asyncio.gather(*reading)
    told = {
        "cpu_share": (after.user + after.system - before.user - before.system) / seconds,
        "memory_mib": memory / 2**20,
        "memory_growth_mib": grown / 2**20,
    }
    if readers:
        delays = sorted(delay for reader in readers for delay in reader.delays_ms)
        told |= {
            "tokens_per_second": tokens / seconds,
            "median_ms": statistics.median(delays),
            "p99_ms": delays[int(len(delays) * 0.99)],
            "tokens_per_message": len(delays) / sum(reader.messages for reader in readers),
        }
    return told


def _submit(url: str, count: int) -> list[str]:
    import httpx

    ids: list[str] = []
    with httpx.Client(base_url=url, timeout=60) as api:
        while len(ids) < count:
            jobs = [{"prompt": PROMPT, "model": MODEL}] * min(500, count - len(ids))
            answer = api.post("/v1/jobs:batch", json={"jobs": jobs}).raise_for_status()
            ids += [job["job_id"] for job in answer.json()["jobs"]]
    return ids


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    with TemporaryDirectory(prefix="aitbc-bench-") as name:
        directory = Path(name)
        programs: list[Program] = []
        try:
            coordinator = start_coordinator(data=directory / "data", log=directory / "log")
            programs.append(coordinator.program)
            for number in range(arguments.miners):
                options = {
                    "tokens": int(arguments.rate * arguments.seconds),
                    "tokens_per_second": arguments.rate,
                    "stamps": "true",
                }
                miner = start_miner(
                    coordinator.grpc,
                    miner_id=f"miner-{number}",
                    models=[MODEL],
                    slots=-(-arguments.jobs // arguments.miners),
                    options=[
                        word
                        for key, value in options.items()
                        for word in ("--engine-opt", f"{key}={value}")
                    ],
                    log=directory / f"miner-{number}.log",
                )
                programs.append(miner)
                miner.wait_for_line("ready", timeout_s=60)
            told = uvloop.run(measure(coordinator, arguments))
        finally:
            for program in programs:
                program.kill()
    table = Table("measure", "value")
    for key, value in told.items():
        table.add_row(key, f"{value:,.2f}")
    console.print(table)
    sys.stdout.write(json.dumps(told) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-streams", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="jobs at once [%(default)s]")
    parser.add_argument("--readers", type=int, default=500, help="of them read [%(default)s]")
    parser.add_argument("--rate", type=float, default=50, help="tokens/s of a job [%(default)s]")
    parser.add_argument("--seconds", type=float, default=20, help="of each job [%(default)s]")
    parser.add_argument("--miners", type=int, default=2, help="miner processes [%(default)s]")
    return parser.parse_args()


if __name__ == "__main__":
    main()

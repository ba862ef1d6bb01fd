"""How long commands and restarts take: seconds of CPU, and of the clock, from start to answer.

    .venv/bin/python -m benchmarks.startup
    .venv/bin/python -m benchmarks.startup --beside ../older/.venv/bin

A restart is a coordinator that was killed: from its start until it says that it is ready, without
jobs and with jobs that wait. With `--beside` the commands of another installation take turns with
this one's, each on data of its own. Every command is run once before the rounds that count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import psutil
from rich.console import Console
from rich.table import Table
from scripts.processes import BIN, start_coordinator, start_miner

from benchmarks.shape import MODEL, PROMPT

_BATCH = 1000
_PATIENCE_S = 600

console = Console()


class _Took(NamedTuple):
    cpu_s: float
    wall_s: float


# Starts something, and returns what it took.
_Take = Callable[[], _Took]


def main() -> None:
    """Measures and prints a table."""
    arguments = _arguments()
    bins = [arguments.beside, BIN] if arguments.beside else [BIN]
    with TemporaryDirectory(prefix="aitbc-bench-") as name:
        takes: list[dict[str, _Take]] = []
        for number, programs in enumerate(bins):
            with console.status(f"making data with {programs}"):
                takes.append(_takes(programs, Path(name) / str(number), arguments))
        figures = _measure(takes, arguments.rounds)
    beside = ("CPU beside", "clock beside") if arguments.beside else ()
    table = Table("", *beside, "CPU", "clock")
    for row, columns in figures.items():
        medians = (_Took(*map(statistics.median, zip(*took, strict=True))) for took in columns)
        table.add_row(row, *(f"{seconds:.2f} s" for median in medians for seconds in median))
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count [%(default)s]")
    parser.add_argument(
        "--pending", type=int, default=10_000, help="jobs that wait at a restart [%(default)s]"
    )
    parser.add_argument(
        "--finished", type=int, default=0, help="jobs that ended before [%(default)s]"
    )
    parser.add_argument(
        "--beside", type=lambda text: Path(text).resolve(), help="programs of another installation"
    )
    return parser.parse_args()


def _measure(takes: list[dict[str, _Take]], rounds: int) -> dict[str, list[list[_Took]]]:
    figures: dict[str, list[list[_Took]]] = {row: [[] for _ in takes] for row in takes[0]}
    for number in range(rounds + 1):
        for row, columns in figures.items():
            with console.status(f"round {number} of {rounds}: {row}"):
                for own, took in zip(takes, columns, strict=True):
                    one = own[row]()
                    if number:
                        took.append(one)
    return figures


def _takes(programs: Path, directory: Path, arguments: argparse.Namespace) -> dict[str, _Take]:
    empty, full = directory / "empty", directory / "full"
    empty.mkdir(parents=True)
    _fill(programs, full, arguments)
    coordinator, miner, client = (
        str(programs / name) for name in ("aitbc-coordinator", "aitbc-miner", "aitbc")
    )
    keys = [coordinator, "keys", "create", "--role", "client", "--data", str(empty)]
    return {
        "aitbc-coordinator --version": lambda: _command(coordinator, "--version"),
        "aitbc-coordinator --help": lambda: _command(coordinator, "--help"),
        "aitbc-coordinator keys create": lambda: _command(*keys),
        "aitbc-coordinator ledger verify": lambda: _command(
            coordinator, "ledger", "verify", "--data", str(full)
        ),
        "aitbc-miner run --help": lambda: _command(miner, "run", "--help"),
        "aitbc --help": lambda: _command(client, "--help"),
        "restart, without jobs": lambda: _restart(programs, empty),
        f"restart, {arguments.pending:,} jobs wait": lambda: _restart(programs, full),
    }


def _fill(programs: Path, data: Path, arguments: argparse.Namespace) -> None:
    coordinator = start_coordinator(
        data=data, log=data.with_suffix(".log"), command=[programs / "aitbc-coordinator"]
    )
    try:
        with httpx.Client(base_url=coordinator.url, timeout=_PATIENCE_S) as client:
            if arguments.finished:
                log = data.with_suffix(".miner.log")
                miner = start_miner(coordinator.grpc, miner_id="m", models=[MODEL], log=log)
                _submit(client, arguments.finished)
                while client.get("/v1/jobs", params={"status": "pending"}).json()["jobs"]:
                    time.sleep(0.5)
                miner.terminate()
            _submit(client, arguments.pending)
    finally:
        coordinator.program.kill()


def _submit(client: httpx.Client, count: int) -> None:
    for first in range(0, count, _BATCH):
        job = {"prompt": PROMPT, "model": MODEL}
        body = {"jobs": [job] * min(_BATCH, count - first)}
        client.post("/v1/jobs:batch", json=body).raise_for_status()


def _command(*argv: str) -> _Took:
    before, started = os.times(), time.monotonic()
    subprocess.run(argv, check=True, capture_output=True, timeout=_PATIENCE_S)
    wall_s, after = time.monotonic() - started, os.times()
    cpu_s = after.children_user + after.children_system
    return _Took(cpu_s - before.children_user - before.children_system, wall_s)


def _restart(programs: Path, data: Path) -> _Took:
    started = time.monotonic()
    coordinator = start_coordinator(
        data=data,
        log=data.with_suffix(".log"),
        command=[programs / "aitbc-coordinator"],
        timeout_s=_PATIENCE_S,
    )
    wall_s = time.monotonic() - started
    cpu = psutil.Process(coordinator.program.pid).cpu_times()
    coordinator.program.kill()
    return _Took(cpu.user + cpu.system, wall_s)


if __name__ == "__main__":
    main()

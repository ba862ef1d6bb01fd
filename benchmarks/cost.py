"""What an operation costs the coordinator, in turns with other installations of it.

    .venv/bin/python -m benchmarks.cost ../older/.venv/bin

All serve at the same time, each on data of its own and the last two measures with miners of its
own. A round takes each measure once of each installation, in an order that is turned round each
time. What counts is the coordinator's own CPU for each operation: that hardly changes with what
else the machine does, as times do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table
from scripts.processes import BIN, ROOT, Coordinator, Program, start_coordinator, start_miner

from benchmarks.__main__ import requests_a_second
from benchmarks.shape import MINERS, MODEL, SLOTS

console = Console()


class _Pair(NamedTuple):
    """The coordinators of one installation: without miners, and with."""

    idle: Coordinator
    busy: Coordinator


class _Figure(NamedTuple):
    cpu_us: float
    per_second: float


# By measure, of each installation the figures of all rounds.
_Figures = Mapping[str, Sequence[list[_Figure]]]
_MEASURES = ("SubmitJob", "POST /v1/jobs", "whole jobs", "one job")


def main() -> None:
    """Measures and prints a table."""
    arguments = _arguments()
    installed = [*arguments.beside, BIN]
    figures: _Figures = {name: [[] for _ in installed] for name in arguments.measures}
    with TemporaryDirectory(prefix="aitbc-bench-") as name, _servers(installed, Path(name)) as all_:
        for number in range(arguments.rounds + 1):
            for measure, columns in figures.items():
                pairs = list(zip(all_, columns, strict=True))
                for pair, column in pairs if number % 2 else reversed(pairs):
                    with console.status(f"round {number} of {arguments.rounds}: {measure}"):
                        figure = _take(measure, pair, arguments)
                    # The first round only warms up.
                    if number:
                        column.append(figure)
    table = Table("CPU, and what came of it", *(str(programs) for programs in installed))
    for measure, columns in figures.items():
        table.add_row(measure, *(_told(column, columns[0]) for column in columns))
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description=__doc__)
    parser.add_argument(
        "beside", nargs="+", type=lambda text: Path(text).absolute(), help="their programs"
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count [%(default)s]")
    parser.add_argument("--seconds", type=float, default=2, help="of calls [%(default)s]")
    parser.add_argument("--jobs", type=int, default=8192, help="whole jobs [%(default)s]")
    parser.add_argument("--single-jobs", type=int, default=200, help="one by one [%(default)s]")
    parser.add_argument(
        "--measures", nargs="+", choices=_MEASURES, default=_MEASURES, help="[all of them]"
    )
    return parser.parse_args()


@contextmanager
def _servers(installed: Sequence[Path], directory: Path) -> Iterator[list[_Pair]]:
    programs: list[Program] = []

    def coordinator(of: Path, name: str) -> Coordinator:
        started = start_coordinator(
            data=directory / name,
            log=directory / f"{name}.log",
            command=(of / "aitbc-coordinator",),
        )
        programs.append(started.program)
        return started

    try:
        pairs = []
        for number, of in enumerate(installed):
            idle, busy = coordinator(of, f"idle-{number}"), coordinator(of, f"busy-{number}")
            pairs.append(_Pair(idle, busy))
            for miner in range(MINERS):
                miner_id = f"miner-{miner}"
                programs.append(
                    start_miner(
                        busy.grpc,
                        miner_id=miner_id,
                        models=[MODEL],
                        slots=SLOTS,
                        log=directory / f"{miner_id}-{number}.log",
                        command=(of / "aitbc-miner",),
                    )
                )
        yield pairs
    finally:
        for program in programs:
            program.kill()


def _take(measure: str, pair: _Pair, arguments: argparse.Namespace) -> _Figure:
    idle, busy = pair
    seconds = arguments.seconds
    match measure:
        case "SubmitJob":
            before = _cpu_s(idle)
            rate = _load("submit", idle.grpc, seconds)["per_second"]
            return _Figure((_cpu_s(idle) - before) / (rate * seconds) * 1e6, rate)
        case "POST /v1/jobs":
            before = _cpu_s(idle)
            rate = requests_a_second(idle.http, seconds)
            return _Figure((_cpu_s(idle) - before) / (rate * seconds) * 1e6, rate)
        case "whole jobs":
            before, count = _cpu_s(busy), arguments.jobs
            rate = _load("jobs", busy.grpc, count)["per_second"]
            return _Figure((_cpu_s(busy) - before) / count * 1e6, rate)
    before, count = _cpu_s(busy), arguments.single_jobs
    median_ms = _load("latency", busy.grpc, count)["median_ms"]
    return _Figure((_cpu_s(busy) - before) / count * 1e6, 1000 / median_ms)


def _load(kind: str, address: str, number: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", kind, address, str(number)]
    printed = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ, timeout=300
    )
    return {name: float(value) for name, value in json.loads(printed.stdout).items()}


def _cpu_s(coordinator: Coordinator) -> float:
    times = psutil.Process(coordinator.program.pid).cpu_times()
    return float(times.user + times.system)


def _told(column: Sequence[_Figure], first: Sequence[_Figure]) -> str:
    cpu, rate = (statistics.median(values) for values in zip(*column, strict=True))
    told = f"{cpu:.0f} us, {rate:,.0f}/s"
    if column is first:
        return told
    # Of pairs: what changed between rounds fell on both.
    ratios = [one.cpu_us / other.cpu_us for one, other in zip(column, first, strict=True)]
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return f"{told}; {middle - 1:+.0%} CPU ({low - 1:+.0%} to {high - 1:+.0%})"


if __name__ == "__main__":
    main()

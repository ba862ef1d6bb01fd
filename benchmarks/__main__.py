"""Runs every measure in interleaved rounds, prints a table, and keeps the figures.

The load runs in a process of its own, and every server in another. A round takes each measure
once, so that whatever else the machine does meanwhile falls on all of them; the table shows the
medians of the rounds, and their range.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from scripts.processes import ROOT, Program, start_coordinator, start_miner

from benchmarks.report import Measure, environment, print_table, summary
from benchmarks.shape import CALLERS, MINERS, MODEL, PROMPT, SLOTS

RESULTS = Path(__file__).parent / "results"
POST = Path(__file__).parent / "post.lua"

# Returns the figure of one round.
_Take = Callable[[], float]

console = Console()


def main() -> None:
    """Measures and reports."""
    arguments = _arguments()
    with TemporaryDirectory(prefix="aitbc-bench-") as directory, _servers(Path(directory)) as at:
        takes = _takes(at, arguments)
        figures: dict[str, list[float]] = {name: [] for name in takes}
        for number in range(arguments.rounds + 1):
            for name, take in takes.items():
                label = f"round {number} of {arguments.rounds}" if number else "warm-up"
                with console.status(f"{label}: {name}"):
                    figure = take()
                # The first round only warms up: imports, caches, the first growth of the WAL.
                if number:
                    figures[name].append(figure)
    measures = [Measure(name=name, rounds=rounds) for name, rounds in figures.items()]
    print_table(console, measures)
    where = environment()
    report = {
        **where,
        "arguments": vars(arguments),
        "summary": summary(measures),
        "rounds": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{where['at'][:10]}-{where['commit'][:9]}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"Kept in {path.relative_to(ROOT)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count [%(default)s]")
    parser.add_argument(
        "--seconds", type=float, default=4, help="of each measure of calls a second [%(default)s]"
    )
    parser.add_argument(
        "--jobs", type=int, default=16_384, help="whole jobs in each round [%(default)s]"
    )
    parser.add_argument(
        "--single-jobs", type=int, default=300, help="jobs one at a time [%(default)s]"
    )
    return parser.parse_args()


def _takes(at: dict[str, str], arguments: argparse.Namespace) -> dict[str, _Take]:
    seconds = arguments.seconds
    return {
        "bare gRPC": lambda: _load("submit", at["bare gRPC"], seconds)["per_second"],
        "SubmitJob": lambda: _load("submit", at["idle gRPC"], seconds)["per_second"],
        "bare HTTP": lambda: requests_a_second(at["bare HTTP"], seconds),
        "POST /v1/jobs": lambda: requests_a_second(at["idle HTTP"], seconds),
        "whole jobs": lambda: _load("jobs", at["busy gRPC"], arguments.jobs)["per_second"],
        "one job": lambda: _load("latency", at["busy gRPC"], arguments.single_jobs)["median_ms"],
    }


@contextmanager
def _servers(directory: Path) -> Iterator[dict[str, str]]:
    """Gives addresses: bare servers, a coordinator without miners, and one with."""
    programs: list[Program] = []
    try:
        addresses = {}
        for kind, name in (("grpc", "bare gRPC"), ("http", "bare HTTP")):
            argv = [sys.executable, "-m", "benchmarks.bare", kind]
            bare = Program(argv, log=directory / f"bare-{kind}.log", env=os.environ)
            programs.append(bare)
            addresses[name] = bare.wait_for_line(r"ready (\S+)", timeout_s=30)[1]
        for name in ("idle", "busy"):
            coordinator = start_coordinator(data=directory / name, log=directory / f"{name}.log")
            programs.append(coordinator.program)
            addresses[f"{name} gRPC"] = coordinator.grpc
            addresses[f"{name} HTTP"] = coordinator.http
        for number in range(MINERS):
            miner_id = f"miner-{number}"
            log = directory / f"{miner_id}.log"
            miner = start_miner(
                addresses["busy gRPC"], miner_id=miner_id, models=[MODEL], slots=SLOTS, log=log
            )
            programs.append(miner)
        yield addresses
    finally:
        for program in programs:
            program.kill()


def _load(kind: str, address: str, number: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", kind, address, str(number)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, timeout=300)
    return {name: float(value) for name, value in json.loads(printed.stdout).items()}


def requests_a_second(address: str, seconds: float) -> float:
    """Returns how many POST /v1/jobs are answered. Raises RuntimeError when any was refused."""
    command = ["wrk", "--threads", "1", "--connections", str(CALLERS)]
    command += ["--duration", f"{seconds:.0f}s", "--script", str(POST), f"http://{address}/v1/jobs"]
    env = {**os.environ, "PROMPT": PROMPT, "MODEL": MODEL}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env, timeout=300)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"wrk saw errors:\n{done.stdout}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk said nothing of use:\n{done.stdout}")
    return float(found[1])


if __name__ == "__main__":
    main()

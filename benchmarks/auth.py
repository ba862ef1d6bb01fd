"""What keys and limits cost: the same load on an open coordinator and on one that requires a key.

`make bench-auth`: both serve at the same time, and take turns in short rounds. The one
with keys counts every call and every job against limits that are never met. Beside the calls a
second stands the coordinator's own CPU time for each, which the load's process does not blur.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table
from scripts.processes import BIN, ROOT, Coordinator, start_coordinator

from benchmarks.report import environment
from benchmarks.shape import CALLERS, MODEL, PROMPT

RESULTS = Path(__file__).parent / "results"
POST = Path(__file__).parent / "post.lua"
_LIMITS = {
    "AITBC_LIMIT_REQUESTS_PER_SECOND": "1000000",
    "AITBC_LIMIT_PENDING_JOBS": "1000000000",
    "AITBC_LIMIT_JOBS_IN_FLIGHT": "1000000000",
}
_KINDS = ("SubmitJob", "POST /v1/jobs")
_MODES = ("open", "required")

console = Console()


def main() -> None:
    """Measures, prints a table and keeps the figures."""
    arguments = _arguments()
    figures: dict[str, dict[str, list[dict[str, float]]]] = {
        kind: {mode: [] for mode in _MODES} for kind in _KINDS
    }
    with TemporaryDirectory(prefix="aitbc-bench-") as directory, _servers(Path(directory)) as both:
        for number in range(arguments.rounds + 1):
            for kind in _KINDS:
                # The first of a pair is the other one in the next round.
                for mode in _MODES if number % 2 else reversed(_MODES):
                    with console.status(f"round {number} of {arguments.rounds}: {kind}, {mode}"):
                        figure = _take(kind, *both[mode], arguments.seconds)
                    if number:
                        figures[kind][mode].append(figure)
    summary = {kind: _summary(modes) for kind, modes in figures.items()}
    _print(summary)
    where = environment()
    report = {**where, "arguments": vars(arguments), "summary": summary, "rounds": figures}
    path = RESULTS / f"{where['at'][:10]}-{where['commit'][:9]}-auth.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"Kept in {path.relative_to(ROOT)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-auth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds that count [%(default)s]")
    parser.add_argument("--seconds", type=float, default=1, help="of each measure [%(default)s]")
    return parser.parse_args()


@contextmanager
def _servers(directory: Path) -> Iterator[dict[str, tuple[Coordinator, str]]]:
    """Gives a coordinator for each mode, with the key to call it with."""
    both: dict[str, tuple[Coordinator, str]] = {}
    try:
        for mode in _MODES:
            data = directory / mode
            env = {**os.environ, **(_LIMITS if mode == "required" else {})}
            coordinator = start_coordinator(
                data=data, log=directory / f"{mode}.log", options=("--auth", mode), env=env
            )
            both[mode] = (coordinator, "")
            if mode == "required":
                command = [str(BIN / "aitbc-coordinator"), "keys", "create", "--role", "client"]
                made = subprocess.run(
                    [*command, "--data", str(data)], check=True, capture_output=True, text=True
                )
                both[mode] = (coordinator, made.stdout.strip())
        yield both
    finally:
        for coordinator, _ in both.values():
            coordinator.program.kill()


def _take(kind: str, coordinator: Coordinator, key: str, seconds: float) -> dict[str, float]:
    process = psutil.Process(coordinator.program.pid)
    before = _cpu_s(process)
    env = {**os.environ, "PROMPT": PROMPT, "MODEL": MODEL}
    if key:
        env["KEY"] = key
    if kind == "SubmitJob":
        command = [sys.executable, "-m", "benchmarks.load", "submit"]
        command += [coordinator.grpc, str(seconds)]
        per_second = float(json.loads(_run(command, env))["per_second"])
    else:
        command = ["wrk", "--threads", "1", "--connections", str(CALLERS)]
        command += ["--duration", f"{seconds:.0f}s", "--script", str(POST)]
        said = _run([*command, f"{coordinator.url}/v1/jobs"], env)
        found = re.search(r"Requests/sec:\s+([\d.]+)", said)
        if found is None or "Non-2xx" in said:
            raise RuntimeError(f"wrk saw errors:\n{said}")
        per_second = float(found[1])
    cpu_us = (_cpu_s(process) - before) / (per_second * seconds) * 1e6
    return {"per_second": per_second, "cpu_us": cpu_us}


def _run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env, timeout=120
    )
    return done.stdout


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _summary(modes: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Returns the medians, and what the one with keys lost."""
    medians = {
        f"{mode} {name}": statistics.median(one[name] for one in rounds)
        for mode, rounds in modes.items()
        for name in ("per_second", "cpu_us")
    }
    return {
        **medians,
        "throughput_lost": 1 - medians["required per_second"] / medians["open per_second"],
        "cpu_added": medians["required cpu_us"] / medians["open cpu_us"] - 1,
    }


def _print(summary: dict[str, dict[str, float]]) -> None:
    table = Table("measure", "open", "with key and limits", "lost", "CPU added")
    for kind, row in summary.items():
        table.add_row(
            kind,
            *(
                f"{row[f'{mode} per_second']:,.0f}/s, {row[f'{mode} cpu_us']:.0f} us"
                for mode in _MODES
            ),
            f"{row['throughput_lost']:.1%}",
            f"{row['cpu_added']:.1%}",
        )
    console.print(table)


if __name__ == "__main__":
    main()

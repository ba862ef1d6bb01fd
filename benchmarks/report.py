"""What was measured, where, and how far it is from what we reach for."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table
from scripts.processes import ROOT

from aitbc_server.store.connection import sqlite3

_LIBRARIES = ("grpcio", "protobuf", "uvicorn", "httptools", "uvloop", "orjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure over all rounds."""

    name: str
    rounds: Sequence[float]

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """How a measure is shown and judged."""

    measure: str
    unit: str
    # Measure of the bare server beside it, by which the reach is then a share.
    beside: str = ""
    reach: float | None = None
    reach_text: str = ""
    is_less_better: bool = False


_ROWS = (
    _Row(measure="bare gRPC", unit="calls/s"),
    _Row(
        measure="SubmitJob", unit="calls/s", beside="bare gRPC", reach=0.6, reach_text="0.6 of bare"
    ),
    _Row(measure="bare HTTP", unit="requests/s"),
    _Row(
        measure="POST /v1/jobs",
        unit="requests/s",
        beside="bare HTTP",
        reach=0.5,
        reach_text="0.5 of bare",
    ),
    _Row(measure="whole jobs", unit="jobs/s", reach=5000, reach_text="5,000 jobs/s"),
    _Row(measure="one job", unit="ms", reach=5, reach_text="5 ms", is_less_better=True),
)


class Environment(TypedDict):
    """What the figures depend on."""

    at: str
    commit: str
    has_local_changes: bool
    cpu: str
    cores: int
    python: str
    sqlite: str
    libraries: dict[str, str]


def environment() -> Environment:
    """Returns where and with what was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "has_local_changes": bool(_git("status", "--porcelain", "--", "src")),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def summary(measures: Sequence[Measure]) -> dict[str, dict[str, float]]:
    """Returns the median of each measure and, beside a bare server, the median of the shares."""
    by_name = {measure.name: measure for measure in measures}
    return {
        row.measure: {
            "median": by_name[row.measure].median,
            **({"share_of_bare": _share(row, by_name)} if row.beside else {}),
        }
        for row in _ROWS
    }


def print_table(console: Console, measures: Sequence[Measure]) -> None:
    """Prints the table."""
    by_name = {measure.name: measure for measure in measures}
    table = Table("measure", "median", "range", "of bare", "reach")
    for row in _ROWS:
        measure = by_name[row.measure]
        show = _milliseconds if row.is_less_better else _rate
        table.add_row(
            row.measure,
            f"{show(measure.median)} {row.unit}",
            f"{show(min(measure.rounds))}-{show(max(measure.rounds))}",
            f"{_share(row, by_name):.2f}" if row.beside else "",
            _verdict(row, by_name),
        )
    console.print(table)


def _share(row: _Row, by_name: dict[str, Measure]) -> float:
    """Returns the median over the rounds of ours by the bare server's."""
    pairs = zip(by_name[row.measure].rounds, by_name[row.beside].rounds, strict=True)
    return statistics.median(ours / bare for ours, bare in pairs)


def _verdict(row: _Row, by_name: dict[str, Measure]) -> str:
    if row.reach is None:
        return ""
    reached = _share(row, by_name) if row.beside else by_name[row.measure].median
    is_reached = reached <= row.reach if row.is_less_better else reached >= row.reach
    return f"[green]✓[/] {row.reach_text}" if is_reached else f"[red]✗[/] {row.reach_text}"


_rate: Callable[[float], str] = "{:,.0f}".format
_milliseconds: Callable[[float], str] = "{:.2f}".format


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")

"""Jobs that grow old, in a coordinator that is killed while it forgets them."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
from scripts.processes import BIN

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import submit_many

FORGETFUL = {**CLEAN_ENV, "AITBC_JOB_RETENTION": "1s"}
# More than one commit forgets.
JOBS = 400


def count(data: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{data}/coordinator.db?mode=ro", uri=True)) as database:
        (rows,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(rows)


def has_at_most(data: Path, jobs: int) -> bool:
    return count(data, "jobs") <= jobs


def verified(data: Path) -> str:
    argv = f"{BIN}/aitbc-coordinator ledger verify --data {data}".split()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=CLEAN_ENV)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline


def test_a_kill_while_jobs_are_forgotten_leaves_each_whole_or_gone(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    data = coordinator.data
    launcher.miner(coordinator, slots=100)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        submit_many(api, JOBS)
        until(lambda: count(data, "results") == JOBS)
    coordinator.program.kill()
    # When a commit or two have forgotten some, and when all are forgotten.
    for most in (JOBS - 1, 0):
        coordinator = launcher.again(coordinator, env=FORGETFUL)
        until(partial(has_at_most, data, most))
        coordinator.program.kill()
        kept = count(data, "jobs")
        assert [count(data, table) for table in ("specs", "results", "attempts")] == [kept] * 3
        assert count(data, "forgotten") == JOBS - kept
        said = verified(data)
        assert f" {JOBS} receipts in " in said
        assert f" {JOBS - kept} of them of jobs no longer kept" in said

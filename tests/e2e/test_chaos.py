"""Chaos: a short run is clean, and each planted bug is found."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from chaos.checker import Breach
from scripts.processes import ROOT

from tests.conftest import CLEAN_ENV

SHORT = ("--minutes", "0.4", "--rate", "200", "--pause", "0.8")
PATIENCE_S = 170

# What each bug does, as the checker sees it.
BUGS: Mapping[str, Breach] = {
    "ack-before-commit": Breach.LOST,
    "no-fencing": Breach.FOREIGN_RESULT,
    "lease-kept-over-restart": Breach.UNFINISHED,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, subprocess.Popen[str]]]:
    """All runs at once, by bug: most of the time they wait for something to start."""
    running = {
        # Miners that record only: what a bug did is seen wherever it was done.
        bug: _start(
            tmp_path_factory.mktemp("chaos"), "--plant", bug, "--drain", "15", "--echoes", "0"
        )
        for bug in BUGS
    }
    running[""] = _start(tmp_path_factory.mktemp("chaos"))
    yield running
    for run in running.values():
        if run.poll() is None:
            # As Ctrl-C: it ends what it started.
            run.send_signal(signal.SIGINT)
        run.communicate(timeout=PATIENCE_S)


def _start(directory: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaos", *SHORT, "--seed", "7", *options],
        cwd=ROOT,
        env={**CLEAN_ENV, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_short_run_is_clean(runs: Mapping[str, subprocess.Popen[str]]) -> None:
    output, _ = runs[""].communicate(timeout=PATIENCE_S)
    assert runs[""].returncode == 0, output
    assert "Verdict: clean" in output
    jobs = dict(re.findall(r"│ (\w[\w ]*?) +│ +(\d+) +│", output))
    assert int(jobs["acknowledged"]) > 100, output
    assert int(jobs["processes killed"]) > 0, output


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, runs: Mapping[str, subprocess.Popen[str]]) -> None:
    output, _ = runs[bug].communicate(timeout=PATIENCE_S)
    assert runs[bug].returncode == 1, output
    assert f"{BUGS[bug]}:" in output, output

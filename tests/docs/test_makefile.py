"""`make` says what it can do, and the scripts say clearly what they miss."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import run
from scripts.processes import ROOT

from tests.conftest import CLEAN_ENV


def test_help_lists_every_target() -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    printed = subprocess.run(
        ["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert set(re.findall(r"^  make (\S+) +\S", printed, re.MULTILINE)) == set(targets[0].split())


def test_old_python_is_refused_with_its_version(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "venv.sh", tmp_path / "venv"],
        env={**os.environ, "PYTHON": str(old)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr


def test_run_names_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "scripts.run", "--data", tmp_path],
            cwd=ROOT,
            env={**CLEAN_ENV, "AITBC_GRPC": address, "AITBC_HTTP": "127.0.0.1:0"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert address in done.stdout
    assert "AITBC_GRPC" in done.stdout
    assert "--grpc" in done.stdout


def test_run_takes_another_port_where_nobody_asked_for_the_one_that_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = {"host_port": address, "option": "--http", "variable": "AITBC_HTTP"}
        assert run.free(run.Address(**asked, is_default=True)) == "127.0.0.1:0"
        assert address in capsys.readouterr().out
        with pytest.raises(run.CannotRun, match=address):
            run.free(run.Address(**asked, is_default=False))


def test_a_step_that_is_stopped_stops_all_that_it_started(tmp_path: Path) -> None:
    # Open for as long as the process lives that the step's function has started.
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    work = "work() { bash -c 'exec 3>alive; echo >&3; exec sleep 600'; }"
    step = subprocess.Popen(
        ["bash", "-c", f". {ROOT}/scripts/step.sh; {work}; step Working work"], cwd=tmp_path
    )
    try:
        with alive.open() as reader:
            assert reader.readline()
            step.terminate()
            assert step.wait(timeout=30) == 130
            assert reader.read() == ""
    finally:
        step.kill()

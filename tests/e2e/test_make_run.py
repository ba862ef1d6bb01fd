"""The first command of the README, on a machine that has nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.processes import ROOT, VLLM_BIN, Program

from tests.conftest import CLEAN_ENV, Launcher
from tests.model import ANSWER, QUESTION

# Of earlier runs, and of whoever runs the tests.
OLD = ("HOME", "LANG", "LC_", "XDG_", "HF_", "VLLM_")


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A clone whose environments are those of this one, which `make test` itself has made.

    Only their installation is not repeated; what `make run` does with them is.
    """
    clone = tmp_path / "a clone"
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    (clone / ".stamps").mkdir()
    for environment, stamp in ((".venv", "install"), (".venv-vllm", "vllm")):
        (clone / environment).symlink_to(ROOT / environment)
        (clone / ".stamps" / stamp).touch()
    yield clone
    # With the converted model, a gigabyte of home.
    shutil.rmtree(tmp_path)


@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not VLLM_BIN.exists() and "CI" not in os.environ,
    reason="vLLM is not installed: `make vllm` makes .venv-vllm. With CI set this is a failure",
)
def test_a_clone_answers_where_nothing_was_before(
    clone: Path, launcher: Launcher, tmp_path: Path
) -> None:
    home = tmp_path / "empty home"
    home.mkdir()
    kept = {name: value for name, value in CLEAN_ENV.items() if not name.startswith(OLD)}
    run = launcher.own(
        Program(
            # Elsewhere than by default, where a developer's own may run.
            ["make", "run", "ARGS=--http 127.0.0.1:0 --grpc 127.0.0.1:0"],
            log=tmp_path / "run.log",
            env={**kept, "HOME": str(home), "LC_ALL": "C"},
            cwd=clone,
        )
    )
    asked = run.wait_for_line(QUESTION, timeout_s=500)
    assert asked.string == QUESTION
    run.wait_for_line("Ctrl-C stops everything", timeout_s=30)
    assert ANSWER in run.tail().splitlines()
    # As a terminal sends Ctrl-C: to make and to all that it started.
    os.killpg(run.pid, signal.SIGINT)
    run.wait(timeout_s=60)
    for name in ("miner", "coordinator"):
        assert f"✓ The {name} stopped with status 0" in run.tail().splitlines()
    assert (home / ".cache" / "aitbc").is_dir()

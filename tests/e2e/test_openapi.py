"""What /openapi.json says of the API is true, as schemathesis finds by trying.

A few hundred calls each here; with `SCHEMATHESIS_EXAMPLES=100` in the environment, thousands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts.processes import ROOT, Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key

# Given, the exhaustive phases run too, with so many random cases for each operation.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES")
QUICK = ["--phases", "examples,fuzzing,stateful", "--max-examples", "3"]
ROLES = [None, "client", "miner", "admin"] if EXAMPLES else [None, "admin"]
THOROUGH = ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES)]


def tried(coordinator: Coordinator, report: Path, *options: str) -> dict[str, Any]:
    """Runs all checks; returns the report of what was found."""
    command = [sys.executable, "-m", "schemathesis.cli", "run"]
    command += [f"{coordinator.url}/openapi.json", "--checks", "all", "--continue-on-failure"]
    command += ["--report", "json", "--report-json-path", str(report), "--seed", "20261124"]
    command += ["--no-color", *(THOROUGH if EXAMPLES else QUICK), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=CLEAN_ENV, capture_output=True, text=True, check=False
    )
    print(done.stdout)  # noqa: T201 - pytest shows it when the test fails
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.timeout(3600 if EXAMPLES else 180)
@pytest.mark.parametrize("role", ROLES)
def test_the_document_is_true(role: str | None, launcher: Launcher, tmp_path: Path) -> None:
    auth = "open" if role is None else "required"
    coordinator = launcher.coordinator("--auth", auth)
    options = []
    if role is not None:
        key = create_key(coordinator.data, role)
        options = ["--header", f"X-Api-Key: {key}"]
    tried(coordinator, tmp_path / "report.json", *options)
    log = coordinator.program.log.read_text()
    assert "Traceback" not in log

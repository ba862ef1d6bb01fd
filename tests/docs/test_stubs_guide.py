"""What the guide to stubs says of a running coordinator is so."""

from __future__ import annotations

import subprocess
import sys

from scripts.processes import BIN, ROOT, Coordinator

from tests.conftest import CLEAN_ENV
from tests.docs.snippets import pointed_at, snippets
from tests.polyglot.guide import PAGE


def _run(code: str, coordinator: Coordinator) -> str:
    """Runs a command of the guide in the shell; returns what it prints."""
    env = CLEAN_ENV | {"PATH": f"{BIN}:{CLEAN_ENV['PATH']}"}
    return subprocess.check_output(
        ["bash", "-c", pointed_at(code, coordinator)], text=True, timeout=60, env=env, cwd=ROOT
    )


def test_a_service_config_makes_a_channel(coordinator: Coordinator) -> None:
    (code,) = snippets(PAGE, "python")
    command = [sys.executable, "-c", pointed_at(code, coordinator)]
    output = subprocess.check_output(command, text=True, timeout=60, env=CLEAN_ENV, cwd=ROOT)
    assert output == "ok\n"


def test_a_tool_without_protos_lists_and_calls_what_there_is(coordinator: Coordinator) -> None:
    [curl] = [
        line.removeprefix("$ ")
        for block in snippets(PAGE, "console")
        for line in block.splitlines()
        if line.startswith("$ buf curl")
    ]
    assert '"miners"' in _run(curl, coordinator)
    options = "--http2-prior-knowledge --protocol grpc --list-methods"
    listed = _run(f"buf curl {options} http://{coordinator.grpc}", coordinator)
    assert {"aitbc.v1.JobService/SubmitJob", "aitbc.v1.MinerService/Work"} <= set(listed.split())

"""What the README shows works."""

from __future__ import annotations

import json
import subprocess
import sys

from scripts.processes import Coordinator

from tests.docs.snippets import pointed_at, snippets


def printed(command: list[str]) -> str:
    """Returns what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_snippet_prints_the_job(coordinator: Coordinator) -> None:
    (code,) = snippets("README.md", "bash")
    job = json.loads(printed(["bash", "-euo", "pipefail", "-c", pointed_at(code, coordinator)]))
    assert job["status"] == "completed"
    assert job["result"] == "What is the capital of Sweden?"


def test_python_snippet_prints_the_result(coordinator: Coordinator) -> None:
    (code,) = snippets("README.md", "python")
    output = printed([sys.executable, "-c", pointed_at(code, coordinator)])
    assert output == "What is the capital of Sweden?\n"

"""Runs the clients in `node/`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import CLEAN_ENV

SCRIPTS = Path(__file__).parent / "node"
TIMEOUT_S = 170


def run_node(script: str, *arguments: str) -> Any:
    """Runs a script to its end; returns the JSON that it printed."""
    done = subprocess.run(
        ["node", str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=CLEAN_ENV,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

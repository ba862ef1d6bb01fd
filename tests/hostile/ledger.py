"""What anybody with the data directory finds out."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.processes import BIN

from tests.conftest import CLEAN_ENV


def verify(data: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs `ledger verify`."""
    return subprocess.run(
        [BIN / "aitbc-coordinator", "ledger", "verify", "--data", data, *options],
        env=CLEAN_ENV,
        capture_output=True,
        text=True,
        timeout=60,
    )

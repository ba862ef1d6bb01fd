"""A clone of the repository, as somebody has it who installs a generator and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from scripts.processes import BIN, ROOT

# What generators read.
_NAMES = ("protos", "buf.yaml", "buf.gen.yaml", "buf.gen.go.yaml", "buf.gen.ts.yaml")


class Clone:
    """A directory with the protos, in which commands run."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        for name in _NAMES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, directory / name)
        self.out = directory / "out"
        # Neither a cache nor a setting of this machine's is there, and nothing is fetched.
        nowhere = "http://127.0.0.1:9"
        self.env = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(directory),
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
        }

    def run(self, *command: str | Path, **env: str) -> str:
        """Runs a command to its end, which must be a good one; returns what it printed."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.env | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def files(self, directory: str) -> list[str]:
        """Returns the paths of all files below a directory."""
        below = self.path / directory
        return sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.is_file())

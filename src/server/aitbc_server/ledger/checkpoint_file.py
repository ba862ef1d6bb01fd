"""A checkpoint kept in a file, so that a ledger that was rewritten since is found."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

_MOST_BYTES = 16_384


class CheckpointFile:
    """A signed note, as `/checkpoint` serves it, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_ledger(cls, origin: str, directory: Path) -> CheckpointFile:
        """Returns the file of the ledger of a name."""
        return cls(directory / f"{quote(origin, safe='')}.checkpoint")

    def read(self) -> str | None:
        """Returns the checkpoint; None when there is no file. Raises OSError and ValueError."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > _MOST_BYTES:
            raise ValueError(f"{self.path} is too large for a checkpoint")
        return data.decode()

    def write(self, checkpoint: str) -> None:
        """Replaces it: on disk, whole or not at all, when this returns. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(checkpoint)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def state_directory() -> Path:
    """Returns this user's directory for state. Raises RuntimeError for a user without a home."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "aitbc-coordinator"

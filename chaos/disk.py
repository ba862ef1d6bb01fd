"""A small disk of our own, which can be full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# Room for a run, and what a full disk has left: less than one commit needs.
_SIZE_KIB = 2 * 1024 * 1024
_LEFT_KIB = 16


class NoDiskError(Exception):
    """This machine lets us have no disk of our own."""


class Disk:
    """A tmpfs, which takes memory only for what is on it."""

    def __init__(self, path: Path) -> None:
        """Mounts it. Raises NoDiskError where mounts are not allowed."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE_KIB}k,mode=700", "tmpfs", path)
        except (OSError, subprocess.CalledProcessError) as error:
            output = getattr(error, "stderr", "") or str(error)
            raise NoDiskError(output.strip()) from error

    def fill(self) -> None:
        """Leaves no room."""
        # Files may grow between the look and the mount, which then refuses.
        while not self._resize(self._used_kib() + _LEFT_KIB):
            pass

    def _used_kib(self) -> int:
        usage = os.statvfs(self.path)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize // 1024

    def free(self) -> None:
        """Has room again."""
        self._resize(_SIZE_KIB)

    def make_read_only(self) -> None:
        """Takes no writes any more. Nobody may have a file open for writing."""
        _run("mount", "-o", "remount,ro", self.path)

    def unmount(self) -> None:
        """Ends it, with all that is on it."""
        _run("umount", "--lazy", self.path)

    def _resize(self, size_kib: int) -> bool:
        try:
            _run("mount", "-o", f"remount,size={size_kib}k", self.path)
        except subprocess.CalledProcessError:
            return False
        return True


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)

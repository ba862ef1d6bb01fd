"""The files of the process: how many it may open, and those that are its owner's alone."""

from __future__ import annotations

import os
import resource
import secrets
from pathlib import Path

# Each port has two fifths: what is left is for the database, webhooks and all else.
_PARTS, _OF = 2, 5
_LEAST = 16


def share_of_files(most: int) -> int:
    """Returns how many connections a port may have, of so many that are wanted."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return most
    return max(_LEAST, min(most, files * _PARTS // _OF))


def write_private(path: Path, data: bytes) -> None:
    """Writes a file that only its owner can read: whole or not at all. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def secret_in(path: Path) -> bytes:
    """Returns the secret in a file, which is made where there is none. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(32)
        write_private(path, secret)
        return secret

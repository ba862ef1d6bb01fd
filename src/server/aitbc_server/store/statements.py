"""The SQL statements by name, from the .sql files beside this one."""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FILES = resources.files(__package__) / "sql"


def schema_files() -> list[str]:
    """Returns the names of the schema's files, the oldest first."""
    return sorted(file.name for file in _FILES.iterdir() if file.name.startswith("schema_"))


def script(file: str) -> str:
    """Returns a whole file."""
    return (_FILES / file).read_text()


def statements(file: str) -> dict[str, str]:
    """Returns the statements of a file by the name in the comment above each."""
    parts = _NAME.split(script(file))
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))

"""The SQL statements by name, from the .sql files beside this one."""

from __future__ import annotations

import re
from importlib import resources

from aitbc_server.store.connection import sqlite3

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FILES = resources.files(__package__) / "sql"
# Of an array of rows, json_each writes each as text, which every `->>` on it parses anew. Since
# SQLite 3.51 there is one that hands it on as it was parsed.
_EACH = "jsonb_each" if sqlite3.sqlite_version_info >= (3, 51) else "json_each"


def schema_files() -> list[str]:
    """Returns the names of the schema's files, the oldest first."""
    return sorted(file.name for file in _FILES.iterdir() if file.name.startswith("schema_"))


def script(file: str) -> str:
    """Returns a whole file."""
    return (_FILES / file).read_text()


def statements(file: str) -> dict[str, str]:
    """Returns the statements of a file by the name in the comment above each."""
    parts = _NAME.split(script(file).replace("json_each(?1)", f"{_EACH}(?1)"))
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))

"""Runs `aitbc-coordinator keys` in this process: another one than the server's, as it would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from aitbc_server.cli import cli


def run_keys(*arguments: str, data: Path) -> Result:
    """Runs the command to its end."""
    return CliRunner().invoke(cli, ["keys", *arguments, "--data", str(data)])


def create_key(data: Path, role: str, *options: str) -> str:
    """Returns a new key."""
    done = run_keys("create", "--role", role, *options, data=data)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


def revoke_key(data: Path, key: str) -> None:
    """Revokes a key, as text or as id."""
    done = run_keys("revoke", key.split("_")[1], data=data)
    assert done.exit_code == 0, done.output


def list_keys(data: Path) -> list[dict[str, Any]]:
    """Returns what `keys list --json` says of each key."""
    done = run_keys("list", "--json", data=data)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]

"""What others say, on a terminal: shown, and never obeyed."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import typer

from aitbc_server.domain.said import harmless


def harmless_event(_logger: object, _name: str, event: MutableMapping[str, Any]) -> Any:
    """Processes an event of a log: what others say may be in any of its values."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = harmless(value)
    return event


def say(text: str, *, err: bool = False) -> None:
    """Prints a line for people; what others said in it is obeyed by no terminal."""
    is_shown = (sys.stderr if err else sys.stdout).isatty()
    typer.echo(harmless(text) if is_shown else text, err=err)

"""How the command shows things: text for people, and JSON for programs. See tables.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer

from aitbc_client.models import EventType, Job, JobEvent, Miner, Submitted
from aitbc_client.receipts import Check, Outcome, Receipt
from aitbc_client.terminal import harmless, harmless_line

_MARKS = {
    Outcome.PASSED: ("\u2713", "green"),
    Outcome.FAILED: ("\u2717", "red"),
    Outcome.SKIPPED: ("-", "bright_black"),
}

# Answers go to standard output, so that they can be piped; all else to standard error.


def text(value: str, *, end: str = "\n") -> None:
    """Prints text: as it is into a file or a pipe; on a terminal, nothing that it would obey."""
    if sys.stdout.isatty():
        value = harmless(value)
    typer.echo(value + end, nl=False, color=True)


def note(value: str) -> None:
    """Prints a remark that is no part of an answer."""
    typer.secho(harmless(value), err=True, dim=True)


def failure(value: str) -> None:
    """Prints why a command failed."""
    typer.secho(harmless(value), err=True, fg="red")


class Answer:
    """An answer as it is made.

    What the model thinks before is for people who watch: dimmed, and only on a terminal.
    """

    def __init__(self) -> None:
        self._is_thinking = False

    def show(self, event: JobEvent) -> None:
        """Prints what an event adds."""
        if event.type is EventType.RESTARTED:
            self._is_thinking = False
            text("")
            note("another miner begins anew")
        if event.reasoning and sys.stderr.isatty():
            self._is_thinking = True
            typer.secho(harmless(event.reasoning), err=True, dim=True, nl=False)
        if event.text:
            if self._is_thinking:
                self._is_thinking = False
                typer.echo(err=True)
            text(event.text, end="")


def as_json(value: Job | JobEvent | Miner | Receipt | Submitted) -> None:
    """Prints a value as one line of JSON; what is not set is absent."""
    document = value.document if isinstance(value, Receipt) else _set_only(asdict(value))
    text(json.dumps(document, default=_plain, ensure_ascii=False))


def receipt(one: Receipt) -> None:
    """Prints what a receipt says, a line a field."""
    for name, value in one.document.items():
        if not isinstance(value, dict):
            text(f"{name:17} {harmless_line(str(value))}")
    text(f"{'proof':17} {'with the receipt' if one.is_sealed else 'when its block is sealed'}")


def checks(made: Iterable[Check]) -> None:
    """Prints how the checks of a receipt went."""
    for check in made:
        mark, colour = _MARKS[check.outcome]
        told = harmless_line(f"{check.name}: {check.detail}")
        typer.echo(f"{typer.style(mark, fg=colour)} {told}")


def _set_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _set_only(item) for key, item in value.items() if item is not None}
    return value


def _plain(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)

"""The commands `aitbc-coordinator backup` and `aitbc-coordinator restore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.terminal import say

_Data = Annotated[
    Path, typer.Option("--data", envvar="AITBC_DATA", help="Directory of the database.")
]


def back_up(
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="File to write; must not exist.")
    ],
    data: _Data = Path("aitbc-data"),
) -> None:
    """Copy the database to a file, also while a coordinator serves from it.

    The copy is of one moment and is checked before it appears under its name.
    """
    # Here, so that no other command waits for the cryptography of the ledger's keys to load.
    from aitbc_server.store import backup

    with _explained(backup.BackupError):
        size = backup.back_up(data, destination)
    say(f"{destination}: {size:,} bytes, checked")


def restore(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="File that `backup` made.")],
    data: _Data = Path("aitbc-data"),
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace the database that is there, and keep it beside."),
    ] = False,
) -> None:
    """Make a backup the database of a directory from which no coordinator serves."""
    # Here, as above.
    from aitbc_server.store import backup

    with _explained(backup.BackupError):
        replaced = backup.restore(source, data, replace=replace)
    say(f"{data}: restored from {source}")
    if replaced is not None:
        say(f"{replaced}: what was there before")


@contextmanager
def _explained(failure: type[Exception]) -> Iterator[None]:
    try:
        yield
    except (OSError, failure, SqliteTooOldError, UnusableDatabaseError) as error:
        say(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error

"""The command `aitbc-coordinator forget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aitbc_server.domain.addresses import is_address
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.terminal import say


def forget(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Whose jobs: `keys list` shows it of each key.")
    ],
    data: Annotated[
        Path, typer.Option("--data", envvar="AITBC_DATA", help="Directory of the database.")
    ] = Path("aitbc-data"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the jobs of one caller that have ended, also while a coordinator serves.

    Prompts, results and attempts are deleted for good, and so are files and batches; receipts and
    counts stay.
    """
    # Here, so that no other command waits for it to load.
    from aitbc_server.store.job_file import open_jobs

    if not is_address(address):
        raise typer.BadParameter(f"{address} is no address (ait1...), or has a typing error")
    try:
        with open_jobs(data) as jobs:
            final, others = jobs.count(address)
            held = jobs.count_files(address)
            if (final or held) and not yes:
                and_files = f" and {held:,} files" if held else ""
                typer.confirm(f"Delete {final:,} jobs{and_files} of {address}?", abort=True)
            forgotten = sum(jobs.forget(address))
            files = jobs.forget_files(address)
            is_erased = jobs.erase()
    except (OSError, SqliteTooOldError, UnusableDatabaseError) as error:
        say(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error
    say(
        f"{forgotten:,} jobs of {address} deleted"
        + (f"; {others:,} that have not ended are kept" if others else "")
    )
    if files:
        say(f"{files:,} files of {address} deleted")
    if (forgotten or files) and not is_erased:
        say(
            "the log beside the database may hold them until a coordinator's next start, or until "
            "jobs are deleted again: something reads an older state of the database",
            err=True,
        )

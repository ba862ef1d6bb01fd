"""The command `aitbc-coordinator forget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aitbc_server.domain.addresses import is_address
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError


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

    Prompts, results and attempts are deleted for good; receipts and counts stay.
    """
    # Here, so that no other command waits for it to load.
    from aitbc_server.store.job_file import open_jobs

    if not is_address(address):
        raise typer.BadParameter(f"{address} is no address (ait1...), or has a typing error")
    try:
        with open_jobs(data) as jobs:
            final, others = jobs.count(address)
            if final and not yes:
                typer.confirm(f"Delete {final:,} jobs of {address}?", abort=True)
            forgotten = sum(jobs.forget(address))
            is_erased = jobs.erase()
    except (OSError, SqliteTooOldError, UnusableDatabaseError) as error:
        typer.echo(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(
        f"{forgotten:,} jobs of {address} deleted"
        + (f"; {others:,} that have not ended are kept" if others else "")
    )
    if forgotten and not is_erased:
        typer.echo(
            "the log beside the database may hold them until a coordinator's next start, or until "
            "jobs are deleted again: something reads an older state of the database",
            err=True,
        )

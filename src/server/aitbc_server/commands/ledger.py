"""The command `aitbc-coordinator ledger`."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aitbc_server.ledger.audit import Audited, LedgerWrong, Source, audit
from aitbc_server.ledger.keys import create_key
from aitbc_server.ledger.published import Get, PublishedLedger
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.ledger_file import open_ledger

cli = typer.Typer(
    name="ledger",
    help="Verify the ledger of receipts, and change the key that signs it.",
    no_args_is_help=True,
)

_DATA = Path("aitbc-data")
# Receipts between two steps of the progress bar.
_STEP = 2_000
_PATIENCE_S = 30.0


@cli.command()
def verify(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_DATA",
            help="Directory of the database; a coordinator may serve from it meanwhile.",
            show_default=str(_DATA),
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Base URL of a coordinator, to verify what it publishes instead."
        ),
    ] = None,
) -> None:
    """Recompute every hash, root, link and signature of the ledger.

    Exits with 0 and the count, or with 1 and the first thing that is wrong. With --url only what
    blocks hold is there to verify.
    """
    started = time.monotonic()
    try:
        if url is not None:
            with httpx.Client(base_url=url.rstrip("/"), timeout=_PATIENCE_S) as client:
                source: Source = PublishedLedger(_getter(client))
                done = _audited(source)
        else:
            with open_ledger(data or _DATA) as source:
                done = _audited(source)
    except LedgerWrong as wrong:
        typer.echo(f"aitbc-coordinator: the ledger is wrong: {wrong}", err=True)
        raise typer.Exit(1) from wrong
    except (
        OSError,
        ValueError,
        KeyError,
        httpx.HTTPError,
        SqliteTooOldError,
        UnusableDatabaseError,
    ) as error:
        typer.echo(f"aitbc-coordinator: the ledger cannot be read: {error}", err=True)
        raise typer.Exit(1) from error
    seconds = time.monotonic() - started
    typer.echo(
        f"{source.origin}: {done.receipts:,} receipts in {done.blocks:,} blocks"
        + (f" ({done.pending:,} in none yet)" if done.pending else "")
        + f" verified, {done.signatures:,} signatures by {done.keys:,} keys and by miners, in "
        f"{seconds:.1f} s"
    )


@cli.command("rotate-key")
def rotate_key(
    data: Annotated[Path, typer.Option(envvar="AITBC_DATA", help="Directory of the database.")] = (
        _DATA
    ),
) -> None:
    """Make a new key that signs the ledger from now on, and print its public half.

    A running coordinator takes it up when it seals its next block, and has the key before endorse
    it. Keep the old files: they are no longer needed to sign, but a backup should have them.
    """
    if not (data / FILE_NAME).exists():
        typer.echo(f"aitbc-coordinator: {data / FILE_NAME} does not exist", err=True)
        raise typer.Exit(1)
    try:
        signer = create_key(data)
    except OSError as error:
        typer.echo(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(b64encode(signer.public_key).decode())


def _audited(source: Source) -> Audited:
    with _progress(source.size) as step:
        return audit(source, step)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("verifying receipts"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        shown = 0

        def step(done: int) -> None:
            nonlocal shown
            if done - shown >= _STEP or done == total:
                shown = done
                progress.update(task, completed=done)

        yield step


def _getter(client: httpx.Client) -> Get:
    def get(path: str) -> bytes | None:
        response = client.get(path, headers={"accept": "application/json"})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return response.raise_for_status().content

    return get

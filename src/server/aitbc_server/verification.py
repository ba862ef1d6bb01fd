"""The verification of a whole ledger, with a bar that shows how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aitbc_server.api.convert import prompt_of_spec
from aitbc_server.ledger.audit import Audited, LedgerWrong, Source, audit
from aitbc_server.ledger.published import PublishedLedger
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.ledger_file import open_ledger

# Receipts between two steps of the bar.
_STEP = 2_000
_PATIENCE_S = 30.0


def verify_stored(data: Path) -> None:
    """Verifies the ledger of a directory and prints what it held. Raises Exit."""
    _verify(open_ledger(data, prompt_of_spec))


def verify_published(url: str) -> None:
    """Verifies what a coordinator publishes and prints what it held. Raises Exit."""
    _verify(_published(url))


def _verify(opened: AbstractContextManager[Source]) -> None:
    started = time.monotonic()
    try:
        with opened as source:
            done = _audited(source)
    except LedgerWrong as wrong:
        typer.echo(f"aitbc-coordinator: the ledger is wrong: {wrong}", err=True)
        raise typer.Exit(1) from wrong
    except (OSError, ValueError, KeyError, SqliteTooOldError, UnusableDatabaseError) as error:
        typer.echo(f"aitbc-coordinator: the ledger cannot be read: {error}", err=True)
        raise typer.Exit(1) from error
    seconds = time.monotonic() - started
    typer.echo(
        f"{source.origin}: {done.receipts:,} receipts in {done.blocks:,} blocks"
        + (f" ({done.pending:,} in none yet)" if done.pending else "")
        + (f", {done.forgotten:,} of them of jobs no longer kept," if done.forgotten else "")
        + f" verified, {done.signatures:,} signatures by {done.keys:,} keys and by miners, in "
        f"{seconds:.1f} s"
    )


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


@contextmanager
def _published(url: str) -> Iterator[Source]:
    # Here: only this way of verifying speaks HTTP.
    import httpx

    def get(path: str) -> bytes | None:
        response = client.get(path, headers={"accept": "application/json"})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return response.raise_for_status().content

    try:
        with httpx.Client(base_url=url.rstrip("/"), timeout=_PATIENCE_S) as client:
            yield PublishedLedger(get)
    except httpx.HTTPError as error:
        raise OSError(str(error)) from error

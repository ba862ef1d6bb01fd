"""The verification of a whole ledger, with a bar that shows how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aitbc_server.api.contents import CONTENTS
from aitbc_server.coordinator_http import published_at
from aitbc_server.ledger.audit import Audited, Source, audit
from aitbc_server.ledger.checkpoint_file import CheckpointFile, state_directory
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.published import NO_LEDGER, PublishedLedger
from aitbc_server.ledger.trust import NO_TRUST, Trust
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.ledger_file import open_ledger
from aitbc_server.terminal import say

# Receipts between two steps of the bar.
_STEP = 2_000


def verify_stored(
    data: Path, *, trust: Trust = NO_TRUST, kept: CheckpointFile | None = None
) -> None:
    """Verifies the ledger of a directory and prints what it held. Raises Exit.

    `kept`: holds an older checkpoint, or gets the newest where it holds none.
    """
    _verify(open_ledger(data, CONTENTS), trust, lambda _: kept)


def verify_published(
    url: str, *, trust: Trust = NO_TRUST, kept: CheckpointFile | None = None
) -> None:
    """Verifies what a coordinator publishes and prints what it held. Raises Exit.

    `kept`: as above; by default a file of this user's for each ledger.
    """
    _verify(_published(url), trust, lambda origin: kept or _kept_of(origin))


def _kept_of(origin: str) -> CheckpointFile | None:
    try:
        return CheckpointFile.of_ledger(origin, state_directory() / "checkpoints")
    except RuntimeError:
        return None  # a user without a home


def _verify(
    opened: AbstractContextManager[Source],
    trust: Trust,
    kept_of: Callable[[str], CheckpointFile | None],
) -> None:
    started = time.monotonic()
    kept: CheckpointFile | None = None
    older: str | None = None
    try:
        with opened as source:
            kept = kept_of(source.origin)
            older = kept.read() if kept else None
            done = _audited(source, replace(trust, checkpoint=older))
    except LedgerWrong as wrong:
        say(f"aitbc-coordinator: the ledger is wrong: {wrong}", err=True)
        if older is not None and kept is not None:
            say(f"It was held against the checkpoint in {kept.path}", err=True)
        raise typer.Exit(1) from wrong
    except (OSError, *NO_LEDGER, SqliteTooOldError, UnusableDatabaseError) as error:
        say(f"aitbc-coordinator: the ledger cannot be read: {error}", err=True)
        raise typer.Exit(1) from error
    seconds = time.monotonic() - started
    if kept is not None and done.last_note is not None:
        _keep(kept, done.last_note, is_first=older is None)
    say(
        f"{source.origin}: {done.receipts:,} receipts in {done.blocks:,} blocks"
        + (f" ({done.pending:,} in none yet)" if done.pending else "")
        + (f", {done.forgotten:,} of them of jobs no longer kept," if done.forgotten else "")
        + (f", {done.witnessed:,} of them cosigned by every witness," if trust.witnesses else "")
        + f" verified, {done.signatures:,} signatures by {done.keys:,} keys and by miners, in "
        f"{seconds:.1f} s"
    )


def _audited(source: Source, trust: Trust) -> Audited:
    with _progress(source.size) as step:
        return audit(source, step, trust)


def _keep(kept: CheckpointFile, checkpoint: str, *, is_first: bool) -> None:
    try:
        kept.write(checkpoint)
    except OSError as error:
        # What was verified is right all the same.
        say(f"aitbc-coordinator: the checkpoint was not kept: {error}", err=True)
        return
    if is_first:
        say(f"Kept its checkpoint in {kept.path} for the next time.", err=True)


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
    with published_at(url) as published:
        yield PublishedLedger(published.get)

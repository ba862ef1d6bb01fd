"""A file of prompts that is answered beside a bar that shows how far it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from aitbc_client.aio import AsyncClient
from aitbc_client.batch import Progress, run_batch
from aitbc_client.options import Options


def run_shown(
    options: Options, source: Path, target: Path, model: str | None, concurrency: int
) -> Progress:
    """Answers the file and returns how far it came. Raises OSError, ValueError, AitbcError."""
    return asyncio.run(_run(options, source, target, model, concurrency))


async def _run(
    options: Options, source: Path, target: Path, model: str | None, concurrency: int
) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True, highlight=False, soft_wrap=True)) as bar:
        task = bar.add_task(source.name, total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        async with AsyncClient(options.connection, timeout_s=options.timeout_s) as client:
            return await run_batch(
                client, source, target, model=model, concurrency=concurrency, on_progress=show
            )

"""How the command shows jobs, miners and receipts to people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aitbc_client.models import Job, JobStatus, Miner, MinerStatus
from aitbc_client.receipts import Receipt
from aitbc_client.terminal import harmless_line

T = TypeVar("T")

# Wider than terminals are: a line that wraps is better than an id that is cut short.
_tables = Console(width=500, highlight=False)

_COLOURS = {
    JobStatus.PENDING: "yellow",
    JobStatus.RUNNING: "cyan",
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELLED: "dim",
    MinerStatus.ONLINE: "green",
    MinerStatus.DRAINING: "yellow",
    MinerStatus.OFFLINE: "dim",
}


def jobs(found: Iterable[Job]) -> None:
    """Prints jobs as a table."""
    _table(
        found,
        {
            "job": lambda job: job.job_id,
            "status": lambda job: _status(job.status),
            "model": lambda job: job.model,
            "created": lambda job: _when(job.created_at),
            "tokens": lambda job: str(job.usage.completion_tokens or "") if job.usage else "",
            "miner": lambda job: job.miner_id or "",
            "error": lambda job: job.error.code if job.error else "",
        },
    )


def miners(found: Iterable[Miner]) -> None:
    """Prints miners as a table."""
    _table(
        found,
        {
            "miner": lambda miner: miner.miner_id,
            "status": lambda miner: _status(miner.status),
            "models": lambda miner: ", ".join(miner.models),
            "jobs": lambda miner: f"{miner.running_jobs}/{miner.slots or '-'}",
            "gpu": lambda miner: miner.gpu or "",
            "last seen": lambda miner: _when(miner.last_seen),
        },
    )


def receipts(found: Iterable[Receipt]) -> None:
    """Prints receipts as a table."""
    fields = (
        "receipt_id",
        "status",
        "model",
        "units",
        "unit_type",
        "price",
        "currency",
        "miner_id",
    )
    _table(found, {name.removesuffix("_id"): _field(name) for name in fields})


def _field(name: str) -> Callable[[Receipt], str]:
    return lambda one: str(one.document.get(name, ""))


def _table(rows: Iterable[T], columns: dict[str, Callable[[T], str | Text]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name != "models")
    for row in rows:
        table.add_row(
            *(
                cell if isinstance(cell := of(row), Text) else Text(harmless_line(cell))
                for of in columns.values()
            )
        )
    _tables.print(table if table.row_count else Text("none", style="dim"))


def _status(status: JobStatus | MinerStatus) -> Text:
    return Text(status.value, style=_COLOURS[status])


def _when(time: datetime | None) -> str:
    if time is None:
        return ""
    seconds = max(0, int((datetime.now(UTC) - time).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"

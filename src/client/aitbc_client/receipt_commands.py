"""The commands of `aitbc` for receipts."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc_client import shown
from aitbc_client.errors import NotFound
from aitbc_client.options import Json, options_of
from aitbc_client.receipts import Receipt

if TYPE_CHECKING:
    from aitbc_client.client import Client


def list_receipts(
    context: typer.Context,
    client: Annotated[str, typer.Option(help="Only those that this address pays.")] = "",
    miner: Annotated[str, typer.Option(help="Only those of this miner.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Receipts to show.")] = 20,
    json: Json = False,
) -> None:
    """List receipts, the newest first."""
    with options_of(context).client() as coordinator:
        found = list(islice(coordinator.receipts(client=client, miner_id=miner), limit))
    if json:
        for receipt in found:
            shown.as_json(receipt)
    else:
        # Here: programs, which ask for JSON, need not wait for what draws tables to load.
        from aitbc_client import tables

        tables.receipts(found)


def show_receipt(
    context: typer.Context,
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Id of a receipt or a job.")],
    json: Json = False,
) -> None:
    """Show a receipt; with --json as it is kept and verified."""
    with options_of(context).client() as client:
        found = find_receipt(client, receipt)
    shown.as_json(found) if json else shown.receipt(found)


def find_receipt(client: Client, name: str) -> Receipt:
    """Returns a receipt by its own id or by that of its job. Raises BadParameter."""
    return client.receipt(_receipt_of_job(client, name) if name.startswith("job-") else name)


def _receipt_of_job(client: Client, job_id: str) -> str:
    try:
        job = client.get(job_id)
    except NotFound:
        # A job that was deleted has its receipt still.
        for receipt in client.receipts(job_id=job_id):
            return receipt.receipt_id
        raise
    if job.receipt_id is None:
        raise typer.BadParameter(f"{job_id} is {job.status}: only completed jobs have receipts")
    return job.receipt_id

"""The commands of `aitbc` for receipts."""

from __future__ import annotations

from itertools import islice
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc_client import shown
from aitbc_client.errors import NotFound
from aitbc_client.models import Job
from aitbc_client.options import Json, options_of
from aitbc_client.receipts import Outcome, Receipt

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
        found = _receipt(client, receipt)
    shown.as_json(found) if json else shown.receipt(found)


def verify(
    context: typer.Context,
    receipt: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT", help="Id of a receipt or a job, or a file with a receipt in JSON."
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="Key of the ledger to trust, once for each; by default those that the coordinator"
            " names.",
        ),
    ] = None,
) -> None:
    """Verify a receipt here: its signatures, its place in the ledger, the texts of your own job."""
    file = Path(receipt)
    with options_of(context).client() as client:
        found = _read_receipt(file) if file.is_file() else _receipt(client, receipt)
        keys = key or client.ledger_keys()
        job = None if file.is_file() else _own_job(client, found)
    prompt = (job.prompt or job.messages) if job else None
    try:
        made = found.check(keys, prompt=prompt, result=job.result if job else None)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    shown.checks(made)
    if any(check.outcome is Outcome.FAILED for check in made):
        raise typer.Exit(1)


def _receipt(client: Client, name: str) -> Receipt:
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


def _own_job(client: Client, receipt: Receipt) -> Job | None:
    try:
        return client.get(receipt.job_id)
    except NotFound:
        return None  # somebody else's: its texts are not shown


def _read_receipt(file: Path) -> Receipt:
    try:
        return Receipt(dict(loads(file.read_bytes())))
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{file} holds no receipt in JSON: {error}") from error

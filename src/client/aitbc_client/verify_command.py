"""The command `aitbc verify`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc_client import shown
from aitbc_client.errors import NotFound
from aitbc_client.ledger import CheckpointFile, Ledger, check_ledger
from aitbc_client.options import options_of
from aitbc_client.receipt_commands import find_receipt
from aitbc_client.receipts import Check, Outcome, Receipt

if TYPE_CHECKING:
    from aitbc_client.client import Client


def verify(
    context: typer.Context,
    receipt: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT", help="Id of a receipt or a job, or a file with a receipt in JSON."
        ),
    ],
    job: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The job in JSON, as `GET /v1/jobs/ID` answered it, to hold against the receipt.",
            show_default="your own job, where a receipt is named by its id",
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="Key of the ledger to trust, once for each; by default those that the coordinator"
            " names.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An older checkpoint of the ledger, which must go on from there. The newest one is"
            " written to it when all is right.",
            show_default="one that is kept for each ledger",
        ),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Verifier key of a witness that must have cosigned the receipt's block, once for"
            " each.",
        ),
    ] = None,
    signature_only: Annotated[
        bool,
        typer.Option(
            "--signature-only",
            help="Check no ledger: take a receipt that has no proof that a block holds it.",
        ),
    ] = False,
) -> None:
    """Verify a receipt here: its signatures, what the job asked and answered, and the ledger.

    The ledger must have the receipt, go on from what was seen of it before, and from what witnesses
    cosigned. A file with --key, and without --checkpoint and --witness, is checked without asking
    the coordinator.

    Exits with 1 when a check failed. What was asked for and cannot be checked has failed: a job
    needs the salts in the receipt's `disclosure`, and a receipt its proof, unless
    --signature-only.
    """
    if signature_only and (checkpoint or witness):
        raise typer.BadParameter("give it without --checkpoint and --witness: they are of a ledger")
    file = Path(receipt)
    held = _read_job(job) if job else None
    if file.is_file() and key and not (checkpoint or witness):
        _conclude(_check(_read_receipt(file), key, held, signature_only=signature_only))
        return
    with options_of(context).client() as client:
        found = _read_receipt(file) if file.is_file() else find_receipt(client, receipt)
        if held is None and not file.is_file():
            held = _own_job(client, found)
        keys = key or client.ledger_keys()
        made = _check(found, keys, held, signature_only=signature_only)
        kept, newest = None, None
        if not signature_only:
            kept = CheckpointFile(checkpoint) if checkpoint else _kept_of(found)
            of_ledger, newest = _checks_of_ledger(client, found, key or (), kept, witness or ())
            made += of_ledger
    _conclude(made)
    if kept is not None and newest is not None:
        _keep(kept, newest)


def _conclude(made: Collection[Check]) -> None:
    """Shows the checks. Raises Exit when one failed."""
    shown.checks(made)
    if any(check.outcome is Outcome.FAILED for check in made):
        raise typer.Exit(1)


def _check(
    found: Receipt,
    keys: Collection[str],
    job: Mapping[str, Any] | None,
    *,
    signature_only: bool,
) -> list[Check]:
    try:
        return found.check(keys, job=job, signature_only=signature_only)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error


def _checks_of_ledger(
    client: Client,
    found: Receipt,
    keys: Collection[str],
    kept: CheckpointFile | None,
    witnesses: Collection[str],
) -> tuple[list[Check], str | None]:
    """Returns the checks of the ledger as it is now, and its newest checkpoint."""
    # Here, and not above: who asks for help does not wait for gRPC to load.
    from aitbc_client import operations

    def proof(from_height: int, to_height: int) -> Sequence[bytes]:
        return client.call(operations.consistency(from_height, to_height))

    # The newest checkpoint last: it has all that the others say.
    cosigned = client.call(operations.cosigned_checkpoints()) if witnesses else ()
    chain = client.call(operations.ledger_chain())
    newest = client.call(operations.newest_checkpoint())
    try:
        older = kept.read() if kept else None
        made = check_ledger(
            found,
            Ledger(chain, newest, cosigned, proof),
            keys=keys,
            kept=older,
            witnesses=witnesses,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return made, newest


def _kept_of(found: Receipt) -> CheckpointFile | None:
    try:
        return CheckpointFile.of_ledger(str(found.document["coordinator"]))
    except (RuntimeError, KeyError):
        return None  # a user without a home, or no receipt at all


def _keep(kept: CheckpointFile, checkpoint: str) -> None:
    try:
        kept.write(checkpoint)
    except OSError as error:
        # What was verified is right all the same.
        shown.note(f"the checkpoint was not kept: {error}")


def _read_receipt(file: Path) -> Receipt:
    try:
        return Receipt(dict(loads(file.read_bytes())))
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{file} holds no receipt in JSON: {error}") from error


def _read_job(file: Path) -> Mapping[str, Any]:
    try:
        job = loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} holds no job in JSON: {error}") from error
    if not isinstance(job, dict):
        raise typer.BadParameter(f"{file} holds no job in JSON", param_hint="--job")
    return job


def _own_job(client: Client, receipt: Receipt) -> Mapping[str, Any] | None:
    from aitbc_client import operations

    try:
        return client.call(operations.job_document(receipt.job_id))
    except NotFound:
        return None  # somebody else's: its texts are not shown

"""The command `aitbc-coordinator ledger`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc_server.terminal import say

if TYPE_CHECKING:
    from aitbc_server.ledger.trust import Trust

cli = typer.Typer(
    name="ledger",
    help="Verify the ledger of receipts, and change the key that signs it.",
    no_args_is_help=True,
)

_DATA = Path("aitbc-data")


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
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Public key of the ledger that you trust, in Base64 or as a verifier key: it, or"
            " one that it endorsed, must have signed the newest block.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An older checkpoint of the ledger, which must go on from there. The newest one is"
            " written to it when all is right. With --url, one for each ledger is kept anyway.",
        ),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Verifier key of a witness that must have cosigned the ledger, once for each.",
        ),
    ] = None,
) -> None:
    """Recompute every hash, root, link and signature of the ledger.

    A ledger that was rewritten as a whole is found by what is known of it from before or elsewhere:
    --key, --checkpoint, --witness.

    With --data, each receipt is also compared with its job, prompt and result, unless the job was
    deleted as it may be. With --url only what blocks hold is there to verify. Exits with 0 and the
    count, or with 1 and the first thing that is wrong.
    """
    # Here, so that no other command waits for what verifies to load.
    from aitbc_server.ledger.checkpoint_file import CheckpointFile
    from aitbc_server.verification import verify_published, verify_stored

    trust = _trust(key, witness or ())
    kept = CheckpointFile(checkpoint) if checkpoint else None
    if url is not None:
        verify_published(url, trust=trust, kept=kept)
    else:
        verify_stored(data or _DATA, trust=trust, kept=kept)


def _trust(key: str | None, witnesses: Iterable[str]) -> Trust:
    """Reads what is known of the ledger. Raises BadParameter."""
    from aitbc_server.ledger.cosignatures import Witness
    from aitbc_server.ledger.note import public_key_in
    from aitbc_server.ledger.trust import Trust

    try:
        pinned = public_key_in(key) if key is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    try:
        known = tuple(map(Witness.parse, witnesses))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--witness") from error
    return Trust(key=pinned, witnesses=known)


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
    # Here, so that no other command waits for the cryptography to load.
    from aitbc_server.ledger.keys import create_key
    from aitbc_server.store.directory import FILE_NAME

    if not (data / FILE_NAME).exists():
        say(f"aitbc-coordinator: {data / FILE_NAME} does not exist", err=True)
        raise typer.Exit(1)
    try:
        signer = create_key(data)
    except OSError as error:
        say(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error
    say(b64encode(signer.public_key).decode())

"""The command `aitbc-coordinator ledger`."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Annotated

import typer

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
) -> None:
    """Recompute every hash, root, link and signature of the ledger.

    With --data, each receipt is also compared with its job, prompt and result, unless the job was
    deleted as it may be. With --url only what blocks hold is there to verify. Exits with 0 and the
    count, or with 1 and the first thing that is wrong.
    """
    # Here, so that no other command waits for what verifies to load.
    from aitbc_server.verification import verify_published, verify_stored

    if url is not None:
        verify_published(url)
    else:
        verify_stored(data or _DATA)


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
        typer.echo(f"aitbc-coordinator: {data / FILE_NAME} does not exist", err=True)
        raise typer.Exit(1)
    try:
        signer = create_key(data)
    except OSError as error:
        typer.echo(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(b64encode(signer.public_key).decode())

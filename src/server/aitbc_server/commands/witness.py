"""The command `aitbc-coordinator witness`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def witness(
    url: Annotated[str, typer.Option(metavar="URL", help="Base URL of the coordinator.")],
    data: Annotated[
        Path,
        typer.Option(
            envvar="AITBC_WITNESS_DATA",
            help="Directory of the witness's own key and of what it cosigned. Keep it: a witness"
            " that lost it starts anew.",
        ),
    ] = Path("aitbc-witness"),
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name in its verifier key, such as witness.example.org. Fixed at the first start.",
            show_default="made from its key",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Public key of the ledger that you trust, in Base64 or as a verifier key.",
            show_default="the one that is met first",
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds between two looks.")
    ] = 30.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and exit.")] = False,
) -> None:
    """Follow a coordinator's ledger, and cosign each checkpoint that goes on from all before.

    Run it on another machine than the coordinator, best by somebody else. It prints its verifier
    key: the operator of the coordinator puts it into AITBC_LEDGER_WITNESSES, and whoever trusts the
    witness passes it to `ledger verify --witness`. Exits with 1 when the ledger was rewritten.
    """
    # Here, so that no other command waits for the cryptography to load.
    from aitbc_server.ledger.note import public_key_in
    from aitbc_server.witnessing import run_witness

    try:
        trusted = public_key_in(key) if key is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    run_witness(url, data, name=name, key=trusted, every_s=None if once else every)

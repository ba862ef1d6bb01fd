"""The command `aitbc-coordinator`."""

from __future__ import annotations

from typing import Annotated

import typer

from aitbc_server import __version__
from aitbc_server.commands import (
    backup,
    forget,
    gateway,
    keys,
    ledger,
    openapi,
    protos,
    serve,
    witness,
)

cli = typer.Typer(
    name="aitbc-coordinator",
    help="Takes LLM inference jobs and pushes them to miners over gRPC streams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@cli.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


cli.command("openapi")(openapi.print_openapi)
cli.command("protos")(protos.write_protos)
cli.command("backup")(backup.back_up)
cli.command("restore")(backup.restore)
cli.command("forget")(forget.forget)
cli.command("serve")(serve.serve)
cli.command("gateway")(gateway.gateway)
cli.command("witness")(witness.witness)
cli.add_typer(keys.cli)
cli.add_typer(ledger.cli)


def main() -> None:
    """Runs the command."""
    cli()

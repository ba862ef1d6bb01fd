"""What the commands share: where the coordinator is, and how answers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aitbc_client.connection import Connection

if TYPE_CHECKING:
    from aitbc_client.client import Client

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Options:
    """Where the coordinator is, from the options before the command."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.connection = connection
        self.timeout_s = timeout_s

    def client(self) -> Client:
        """Returns a client of it. Raises OSError."""
        # Here: who asks for help does not wait for gRPC to load.
        from aitbc_client.client import Client

        return Client(self.connection, timeout_s=self.timeout_s)


def options_of(context: typer.Context) -> Options:
    """Returns the options before the command."""
    options = context.obj
    assert isinstance(options, Options)  # noqa: S101 - narrows the type
    return options

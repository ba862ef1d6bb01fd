"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aitbc_server.address import Address


def address(text: str) -> Address:
    """Parses an option. Raises BadParameter."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


HTTP = Address("127.0.0.1:8080")
Http = Annotated[
    Address,
    typer.Option(parser=address, metavar="HOST:PORT", envvar="AITBC_HTTP", help="REST address."),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        envvar="AITBC_TLS_CERT",
        help="Certificate of this server in PEM: its ports then speak TLS only.",
    ),
]
TlsKey = Annotated[
    Path | None, typer.Option(envvar="AITBC_TLS_KEY", help="Key of the certificate in PEM.")
]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(
        envvar="AITBC_TLS_CLIENT_CA",
        help="Who signs the certificates that clients must show, in PEM.",
    ),
]
LogLevel = Annotated[
    str, typer.Option(envvar="AITBC_LOG_LEVEL", help="debug, info, warning or error.")
]

"""The command `aitbc-coordinator serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aitbc_server.address import Address
from aitbc_server.auth.mode import AuthMode
from aitbc_server.commands.options import (
    HTTP,
    Http,
    LogLevel,
    TlsCert,
    TlsClientCa,
    TlsKey,
    address,
)
from aitbc_server.loading import uncollected

_GRPC = Address("127.0.0.1:50051")


def serve(
    http: Http = HTTP,
    grpc: Annotated[
        Address,
        typer.Option(
            parser=address, metavar="HOST:PORT", envvar="AITBC_GRPC", help="gRPC address."
        ),
    ] = _GRPC,
    data: Annotated[
        Path, typer.Option(envvar="AITBC_DATA", help="Directory of the database.")
    ] = Path("aitbc-data"),
    auth: Annotated[
        AuthMode | None,
        typer.Option(
            envvar="AITBC_AUTH",
            help="Who may call. By default open on loopback, required elsewhere.",
        ),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    log_level: LogLevel = "info",
) -> None:
    """Serve gRPC and REST until SIGTERM, which drains.

    Further settings are environment variables; the documentation lists them.
    """
    # Here, so that no other command waits for the whole server to load.
    with uncollected():
        from aitbc_server.serving import serve_coordinator

    serve_coordinator(
        http=http,
        grpc=grpc,
        data=data,
        auth=auth,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        log_level=log_level,
    )

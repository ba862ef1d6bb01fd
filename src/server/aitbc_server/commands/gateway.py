"""The command `aitbc-coordinator gateway`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aitbc_server.address import Address
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


def gateway(
    target: Annotated[
        Address,
        typer.Option(
            parser=address,
            metavar="HOST:PORT",
            envvar="AITBC_TARGET",
            help="gRPC address of the coordinator to stand in front of.",
        ),
    ],
    http: Http = HTTP,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    target_tls: Annotated[
        bool, typer.Option(envvar="AITBC_TARGET_TLS", help="Speak TLS to the coordinator.")
    ] = False,
    target_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_TARGET_CA",
            help="Who signs the coordinator's certificate, in PEM. Implies TLS.",
            show_default="whom gRPC trusts",
        ),
    ] = None,
    target_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_TARGET_CERT",
            help="Certificate to show to the coordinator, in PEM. Implies TLS.",
        ),
    ] = None,
    target_key: Annotated[
        Path | None,
        typer.Option(envvar="AITBC_TARGET_KEY", help="Key of that certificate, in PEM."),
    ] = None,
    log_level: LogLevel = "info",
) -> None:
    """Serve the REST API alone, in front of any coordinator.

    Its routes are learnt from the coordinator by gRPC server reflection. Of the settings that are
    environment variables, those of HTTP and of OpenAI's endpoints count here too.
    """
    # Here, so that no other command waits for the REST layer to load.
    with uncollected():
        from aitbc_server.gateway import serve_gateway
        from aitbc_server.tls import TargetTls

    try:
        towards = TargetTls.of(target_ca, target_cert, target_key, is_wanted=target_tls)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    serve_gateway(
        target,
        towards,
        http=http,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        log_level=log_level,
    )

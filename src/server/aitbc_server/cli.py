"""The command `aitbc-coordinator`."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop
from pydantic import ValidationError

from aitbc_server import __version__, logs
from aitbc_server.app import Coordinator
from aitbc_server.commands import backup, keys, ledger
from aitbc_server.commands.openapi import print_openapi
from aitbc_server.config import Address, AuthMode, Settings
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.prices import PriceTableError
from aitbc_server.rest.gateway import run_gateway
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.tls import TargetTls

_log = structlog.get_logger(__name__)

cli = typer.Typer(
    name="aitbc-coordinator",
    help="Takes LLM inference jobs and pushes them to miners over gRPC streams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


_HTTP = Address("127.0.0.1:8080")
_GRPC = Address("127.0.0.1:50051")
_Http = Annotated[
    Address,
    typer.Option(parser=_address, metavar="HOST:PORT", envvar="AITBC_HTTP", help="REST address."),
]


_TlsCert = Annotated[
    Path | None,
    typer.Option(
        envvar="AITBC_TLS_CERT",
        help="Certificate of this server in PEM: its ports then speak TLS only.",
    ),
]
_TlsKey = Annotated[
    Path | None, typer.Option(envvar="AITBC_TLS_KEY", help="Key of the certificate in PEM.")
]
_TlsClientCa = Annotated[
    Path | None,
    typer.Option(
        envvar="AITBC_TLS_CLIENT_CA",
        help="Who signs the certificates that clients must show, in PEM.",
    ),
]


@cli.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


cli.command("openapi")(print_openapi)
cli.command("backup")(backup.back_up)
cli.command("restore")(backup.restore)


@cli.command()
def serve(
    http: _Http = _HTTP,
    grpc: Annotated[
        Address,
        typer.Option(
            parser=_address, metavar="HOST:PORT", envvar="AITBC_GRPC", help="gRPC address."
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
    tls_cert: _TlsCert = None,
    tls_key: _TlsKey = None,
    tls_client_ca: _TlsClientCa = None,
    log_level: Annotated[
        str, typer.Option(envvar="AITBC_LOG_LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Serve gRPC and REST until SIGTERM, which drains.

    Further settings are environment variables; the documentation lists them.
    """
    settings = _settings(
        http=http,
        grpc=grpc,
        data=data,
        auth=auth,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        log_level=log_level,
    )
    logs.configure(settings.log_level)
    _warn(settings)
    _run(_serve(settings))


cli.add_typer(keys.cli)
cli.add_typer(ledger.cli)


@cli.command()
def gateway(
    target: Annotated[
        Address,
        typer.Option(
            parser=_address,
            metavar="HOST:PORT",
            envvar="AITBC_TARGET",
            help="gRPC address of the coordinator to stand in front of.",
        ),
    ],
    http: _Http = _HTTP,
    tls_cert: _TlsCert = None,
    tls_key: _TlsKey = None,
    tls_client_ca: _TlsClientCa = None,
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
    log_level: Annotated[
        str, typer.Option(envvar="AITBC_LOG_LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Serve the REST API alone, in front of any coordinator.

    Its routes are learnt from the coordinator by gRPC server reflection. Of the settings that are
    environment variables, those of HTTP count here too.
    """
    settings = _settings(
        http=http,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        log_level=log_level,
    )
    try:
        towards = TargetTls.of(target_ca, target_cert, target_key, is_wanted=target_tls)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    logs.configure(settings.log_level)
    _run(_gateway(target, settings, towards))


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as error:
        raise typer.BadParameter(_problems(error)) from error


async def _serve(settings: Settings) -> None:
    stop = _stop_signal()
    coordinator = Coordinator(settings)
    await coordinator.start()
    typer.echo(
        f"aitbc-coordinator ready http={_shown(settings.http, coordinator.http_port)} "
        f"grpc={_shown(settings.grpc, coordinator.grpc_port)} "
        f"auth={settings.auth_mode.value} data={settings.data}{_tls_words(settings)}"
    )
    await stop.wait()
    await coordinator.drain()
    await coordinator.stop()


async def _gateway(target: Address, settings: Settings, target_tls: TargetTls | None) -> None:
    stop = _stop_signal()
    http, metrics = settings.http, settings.metrics

    def ready(port: int) -> None:
        typer.echo(f"aitbc-coordinator gateway ready http={_shown(http, port)} target={target}")

    await run_gateway(
        target,
        http.host,
        http.port,
        on_ready=ready,
        stop=stop,
        max_body_bytes=settings.max_message_bytes,
        call_timeout_s=settings.http_call_seconds,
        limits=settings.http_limits,
        cors_origins=settings.cors_origins,
        metrics=None if metrics is None else (metrics.host, metrics.port),
        tls=settings.tls,
        target_tls=target_tls,
    )


def _run(main: Any) -> None:
    _raise_file_limit()
    try:
        uvloop.run(main)
    except (
        OSError,
        PriceTableError,
        SqliteTooOldError,
        StorageUnavailable,
        UnusableDatabaseError,
    ) as error:
        typer.echo(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error


def _raise_file_limit() -> None:
    # Every miner and client is an open file, and systems begin with a thousand.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stop_signal() -> asyncio.Event:
    """Returns an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _tls_words(settings: Settings) -> str:
    if settings.tls is None:
        return ""
    return " tls=mutual" if settings.tls.client_ca else " tls=on"


def _shown(address: Address, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _warn(settings: Settings) -> None:
    if settings.auth_mode is AuthMode.OPEN and not settings.is_local:
        _log.warning(
            "auth.open", problem="anybody who reaches these addresses may use this coordinator"
        )

    if settings.tls is None and not settings.is_local:
        _log.warning("tls.off", problem="keys, prompts and results cross the network in plain text")


def _problems(error: ValidationError) -> str:
    # What is wrong about several settings together has no place of its own.
    return "; ".join(
        (f"AITBC_{'_'.join(map(str, item['loc'])).upper()}: " if item["loc"] else "") + item["msg"]
        for item in error.errors()
    )


def main() -> None:
    """Runs the command."""
    cli()

"""The command `aitbc-coordinator`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop
from pydantic import ValidationError

from aitbc_server import __version__, logs
from aitbc_server.app import Coordinator
from aitbc_server.commands import backup, keys
from aitbc_server.commands.openapi import print_openapi
from aitbc_server.config import Address, AuthMode, Settings
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.rest.gateway import run_gateway
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError

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
    log_level: Annotated[
        str, typer.Option(envvar="AITBC_LOG_LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Serve gRPC and REST until SIGTERM, which drains.

    Further settings are environment variables; the documentation lists them.
    """
    given: dict[str, Any] = {
        "http": http,
        "grpc": grpc,
        "data": data,
        "auth": auth,
        "log_level": log_level,
    }
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise typer.BadParameter(_problems(error)) from error
    logs.configure(settings.log_level)
    _warn_if_open(settings)
    _run(_serve(settings))


cli.add_typer(keys.cli)


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
    log_level: Annotated[
        str, typer.Option(envvar="AITBC_LOG_LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Serve the REST API alone, in front of any coordinator.

    Its routes are learnt from the coordinator by gRPC server reflection.
    """
    logs.configure(log_level)
    _run(_gateway(target, http))


async def _serve(settings: Settings) -> None:
    stop = _stop_signal()
    coordinator = Coordinator(settings)
    await coordinator.start()
    typer.echo(
        f"aitbc-coordinator ready http={_shown(settings.http, coordinator.http_port)} "
        f"grpc={_shown(settings.grpc, coordinator.grpc_port)} "
        f"auth={settings.auth_mode.value} data={settings.data}"
    )
    await stop.wait()
    await coordinator.drain()
    await coordinator.stop()


async def _gateway(target: Address, http: Address) -> None:
    stop = _stop_signal()

    def ready(port: int) -> None:
        typer.echo(f"aitbc-coordinator gateway ready http={_shown(http, port)} target={target}")

    await run_gateway(target, http.host, http.port, on_ready=ready, stop=stop)


def _run(main: Any) -> None:
    try:
        uvloop.run(main)
    except (OSError, SqliteTooOldError, StorageUnavailable, UnusableDatabaseError) as error:
        typer.echo(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error


def _stop_signal() -> asyncio.Event:
    """Returns an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _shown(address: Address, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _warn_if_open(settings: Settings) -> None:
    is_local = settings.http.is_loopback and settings.grpc.is_loopback
    if settings.auth_mode is AuthMode.OPEN and not is_local:
        _log.warning(
            "auth.open", problem="anybody who reaches these addresses may use this coordinator"
        )


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"AITBC_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()
    )


def main() -> None:
    """Runs the command."""
    cli()

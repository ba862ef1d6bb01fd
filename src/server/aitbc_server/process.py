"""What `serve` and `gateway` have in common: a process that serves until it is told to stop."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Coroutine
from typing import Any

import typer
import uvloop
from pydantic import ValidationError

from aitbc_server.address import Address
from aitbc_server.config import Settings
from aitbc_server.memory import keep_little
from aitbc_server.terminal import say


def read_settings(**given: Any) -> Settings:
    """Returns these settings, and the others from the environment. Raises BadParameter."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise typer.BadParameter(_problems(error)) from error


def run(main: Coroutine[Any, Any, None], *failures: type[Exception]) -> None:
    """Runs a server to its end; OSError and other failures are one line on standard error."""
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    _raise_file_limit()
    keep_little()
    try:
        uvloop.run(main)
    except expected as error:
        say(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error


def stop_signal() -> asyncio.Event:
    """Returns an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def shown(address: Address, port: int) -> str:
    """Returns an address as it is printed, with the port that port 0 came to."""
    return f"{address.rpartition(':')[0]}:{port}"


def _raise_file_limit() -> None:
    # Every miner and client is an open file, and systems begin with a thousand.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _problems(error: ValidationError) -> str:
    # What is wrong about several settings together has no place of its own.
    return "; ".join(
        (f"AITBC_{'_'.join(map(str, item['loc'])).upper()}: " if item["loc"] else "") + item["msg"]
        for item in error.errors()
    )

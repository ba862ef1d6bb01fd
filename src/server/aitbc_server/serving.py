"""The process of a coordinator: its settings, its line when it is ready, and its end."""

from __future__ import annotations

from typing import Any

import structlog

from aitbc_server import logs
from aitbc_server.app import Coordinator
from aitbc_server.auth.mode import AuthMode
from aitbc_server.config import Settings
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.prices import PriceTableError
from aitbc_server.process import read_settings, run, shown, stop_signal
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.terminal import say

_log = structlog.get_logger(__name__)


def serve_coordinator(**given: Any) -> None:
    """Serves with these settings, and those of the environment, until SIGTERM. Raises Exit."""
    settings = read_settings(**given)
    logs.configure(settings.log_level)
    _warn(settings)
    run(
        _serve(settings),
        PriceTableError,
        SqliteTooOldError,
        StorageUnavailable,
        UnusableDatabaseError,
    )


async def _serve(settings: Settings) -> None:
    stop = stop_signal()
    coordinator = Coordinator(settings)
    await coordinator.start()
    say(
        f"aitbc-coordinator ready http={shown(settings.http, coordinator.http_port)} "
        f"grpc={shown(settings.grpc, coordinator.grpc_port)} "
        f"auth={settings.auth_mode.value} data={settings.data}{_tls_words(settings)}"
    )
    await stop.wait()
    await coordinator.drain()
    await coordinator.stop()


def _tls_words(settings: Settings) -> str:
    if settings.tls is None:
        return ""
    return " tls=mutual" if settings.tls.client_ca else " tls=on"


def _warn(settings: Settings) -> None:
    if settings.auth_mode is AuthMode.OPEN and not settings.is_local:
        _log.warning(
            "auth.open", problem="anybody who reaches these addresses may use this coordinator"
        )

    if settings.tls is None and not settings.is_local:
        _log.warning("tls.off", problem="keys, prompts and results cross the network in plain text")

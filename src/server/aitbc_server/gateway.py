"""The process of a gateway: its settings, its line when it is ready, and its end."""

from __future__ import annotations

from typing import Any

import structlog

from aitbc_server import logs
from aitbc_server.address import Address
from aitbc_server.config import Settings
from aitbc_server.process import read_settings, run, shown, stop_signal
from aitbc_server.rest.gateway import run_gateway
from aitbc_server.terminal import say
from aitbc_server.tls import TargetTls

_log = structlog.get_logger(__name__)


def serve_gateway(target: Address, target_tls: TargetTls | None, **given: Any) -> None:
    """Serves with these settings, and those of the environment, until SIGTERM. Raises Exit."""
    settings = read_settings(**given)
    logs.configure(settings.log_level)
    if target_tls is None and not target.is_loopback:
        # All on the way read them.
        _log.warning("gateway.keys_unencrypted", target=str(target), remedy="--target-tls")
    run(_serve(target, settings, target_tls))


async def _serve(target: Address, settings: Settings, target_tls: TargetTls | None) -> None:
    stop = stop_signal()
    http, metrics = settings.http, settings.metrics

    def ready(port: int) -> None:
        say(f"aitbc-coordinator gateway ready http={shown(http, port)} target={target}")

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
        is_openai_strict=settings.openai_strict,
        model_absence_s=settings.model_absence_seconds,
        loop_warn_s=settings.loop_warn_seconds,
        metrics=None if metrics is None else (metrics.host, metrics.port),
        tls=settings.tls,
        target_tls=target_tls,
        house=settings.house,
    )

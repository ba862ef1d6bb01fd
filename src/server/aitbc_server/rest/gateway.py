"""The REST layer alone, in front of a coordinator elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from aitbc_server.anthropic.app import anthropic_absent, anthropic_mounts
from aitbc_server.auth.house import House
from aitbc_server.auth.unread import Unread
from aitbc_server.connect.app import connect_mounts
from aitbc_server.openai.absent import openai_absent
from aitbc_server.openai.app import openai_mounts
from aitbc_server.openai.jobs import ABSENCE_S, Jobs
from aitbc_server.openai.unknown import Ignorance
from aitbc_server.rest.app import CALL_TIMEOUT_S, MAX_BODY_BYTES, RestApp
from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.rest.compression import Compressed
from aitbc_server.rest.cors import Cors
from aitbc_server.rest.errors import HttpError
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.rest.openapi.site import openapi_mounts
from aitbc_server.rest.reflection import ReflectedBackend
from aitbc_server.rest.server import RestServer
from aitbc_server.rest.site import Site
from aitbc_server.supervisor import Supervisor
from aitbc_server.telemetry.health import OK
from aitbc_server.telemetry.metrics import HttpMetrics
from aitbc_server.telemetry.site import health_mounts, metrics_mount, nothing_else
from aitbc_server.telemetry.watchdog import LOOP_WARN_S, LoopWatch
from aitbc_server.tls import TargetTls, TlsFiles

_STOP_GRACE_S = 5.0
_LIMITS = HttpLimits()


async def run_gateway(
    target: str,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[int], None],
    max_body_bytes: int = MAX_BODY_BYTES,
    call_timeout_s: float = CALL_TIMEOUT_S,
    limits: HttpLimits = _LIMITS,
    cors_origins: Sequence[str] = (),
    is_openai_strict: bool = False,
    model_absence_s: float = ABSENCE_S,
    loop_warn_s: float = LOOP_WARN_S,
    metrics: tuple[str, int] | None = None,
    tls: TlsFiles | None = None,
    target_tls: TargetTls | None = None,
    house: House | None = None,
) -> None:
    """Serves until `stop` is set; calls `on_ready` with the port once connections are taken.

    `loop_warn_s`: turns of the event loop that take longer are logged.

    `metrics`: host and port of the metrics, which are not shown where everybody is. The target need
    not be there: requests are answered 503 until it is. Raises OSError when an address cannot be
    listened on, or the files of TLS are not right.
    """
    backend = ReflectedBackend(target, target_tls, house)
    unread = Unread()
    rest = RestApp(
        backend,
        max_body_bytes=max_body_bytes,
        call_timeout_s=call_timeout_s,
        unread=unread,
        absent=(anthropic_absent, openai_absent),
    )
    supervisor = Supervisor()
    health = health_mounts(partial(_checks, backend), supervisor.warnings)
    ignorance = Ignorance(is_strict=is_openai_strict)
    jobs = Jobs(backend, max_body_bytes, model_absence_s)
    mounts = [
        *health,
        *anthropic_mounts(jobs, max_body_bytes=max_body_bytes, ignorance=ignorance, unread=unread),
        *openai_mounts(
            backend, jobs, max_body_bytes=max_body_bytes, ignorance=ignorance, unread=unread
        ),
        *connect_mounts(
            backend,
            rest.calls,
            max_body_bytes=max_body_bytes,
            call_timeout_s=call_timeout_s,
            unread=unread,
        ),
    ]
    # Only the coordinator knows whether it asks for a key.
    mounts += openapi_mounts(backend, is_key_required=False, beside=mounts)
    site: AsgiApp = Compressed(Site(mounts, rest, rest.calls, rest.has_path))
    if cors_origins:
        site = Cors(site, cors_origins)
    turns = LoopWatch(loop_warn_s)
    shown = metrics_mount(HttpMetrics(rest, ignorance.counts, turns, supervisor), None)
    server = RestServer(site, tls=tls, limits=limits, supervisor=supervisor)
    watch = RestServer(Site([shown, *health], nothing_else), supervisor=supervisor)
    try:
        await server.start(host, port)
        if metrics is not None:
            await watch.start(*metrics)
        turns.start()
        on_ready(server.port)
        await stop.wait()
        await asyncio.gather(server.stop(_STOP_GRACE_S), watch.stop(_STOP_GRACE_S))
    finally:
        turns.stop()
        await backend.close()


async def _checks(backend: ReflectedBackend) -> dict[str, str]:
    """Returns whether the coordinator can be reached."""
    try:
        await backend.methods()
    except HttpError as error:
        return {"coordinator": str(error)}
    return {"coordinator": OK}

"""The REST layer alone, in front of a coordinator elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from aitbc_server.openai.app import openai_mounts
from aitbc_server.rest.app import CALL_TIMEOUT_S, MAX_BODY_BYTES, RestApp
from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.rest.cors import Cors
from aitbc_server.rest.errors import HttpError
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.rest.openapi.site import openapi_mounts
from aitbc_server.rest.reflection import ReflectedBackend
from aitbc_server.rest.server import RestServer
from aitbc_server.rest.site import Site
from aitbc_server.telemetry.health import OK
from aitbc_server.telemetry.metrics import HttpMetrics
from aitbc_server.telemetry.site import health_mounts, metrics_mount, nothing_else
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
    metrics: tuple[str, int] | None = None,
    tls: TlsFiles | None = None,
    target_tls: TargetTls | None = None,
) -> None:
    """Serves until `stop` is set; calls `on_ready` with the port once connections are taken.

    `metrics`: host and port of the metrics, which are not shown where everybody is. The target need
    not be there: requests are answered 503 until it is. Raises OSError when an address cannot be
    listened on, or the files of TLS are not right.
    """
    backend = ReflectedBackend(target, target_tls)
    rest = RestApp(backend, max_body_bytes=max_body_bytes, call_timeout_s=call_timeout_s)
    health = health_mounts(partial(_checks, backend))
    mounts = [*health, *openai_mounts(backend, max_body_bytes=max_body_bytes)]
    # Only the coordinator knows whether it asks for a key.
    mounts += openapi_mounts(backend, is_key_required=False, beside=mounts)
    site: AsgiApp = Site(mounts, rest, rest.calls)
    if cors_origins:
        site = Cors(site, cors_origins)
    watched = Site([metrics_mount(HttpMetrics(rest), None), *health], nothing_else)
    server, watch = RestServer(site, tls=tls, limits=limits), RestServer(watched)
    try:
        await server.start(host, port)
        if metrics is not None:
            await watch.start(*metrics)
        on_ready(server.port)
        await stop.wait()
        await asyncio.gather(server.stop(_STOP_GRACE_S), watch.stop(_STOP_GRACE_S))
    finally:
        await backend.close()


async def _checks(backend: ReflectedBackend) -> dict[str, str]:
    """Returns whether the coordinator can be reached."""
    try:
        await backend.methods()
    except HttpError as error:
        return {"coordinator": str(error)}
    return {"coordinator": OK}

"""What operators are served over HTTP: `/metrics`, `/health/live` and `/health/ready`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from aitbc_server.api.endpoint import Gate
from aitbc_server.domain.caller import Access, Role
from aitbc_server.rest.asgi import (
    AsgiApp,
    Receive,
    Response,
    Scope,
    Send,
    json_response,
    send_response,
)
from aitbc_server.rest.errors import MethodNotAllowed, error_response
from aitbc_server.rest.site import Mount
from aitbc_server.telemetry.health import OK
from aitbc_server.telemetry.metrics import CONTENT_TYPE, Metrics

_ADMINS = Access(roles=frozenset({Role.ADMIN}))


def health_mounts(checked: Callable[[], Awaitable[dict[str, str]]]) -> list[Mount]:
    """Returns the mounts of liveness, which says that the process answers, and of readiness.

    `checked` gives `ok` or a problem for each part.
    """

    async def live(_: Scope) -> Response:
        return json_response(200, orjson.dumps({"status": OK}))

    async def ready(_: Scope) -> Response:
        checks = await checked()
        is_ready = all(check == OK for check in checks.values())
        body = orjson.dumps({"status": OK if is_ready else "unavailable", "checks": checks})
        if is_ready:
            return json_response(200, body)
        return json_response(503, body, ((b"retry-after", b"1"),))

    return [
        Mount(f"{prefix}/health/{name}", _getting(answer))
        for prefix in ("", "/api")
        for name, answer in (("live", live), ("ready", ready))
    ]


def metrics_mount(metrics: Metrics, gate: Gate | None) -> Mount:
    """Returns the mount of the metrics: for admins, or without a gate for everybody."""

    async def show(scope: Scope) -> Response:
        if gate is not None:
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
            }
            gate.admit(_ADMINS, headers, (scope.get("client") or ("",))[0])
        text = await metrics.text()
        length = (b"content-length", b"%d" % len(text))
        return Response(200, ((b"content-type", CONTENT_TYPE), length), text)

    return Mount("/metrics", _getting(show))


async def nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 404: an application below mounts that are all there is."""
    if scope["type"] == "http":
        await send_response(send, json_response(404, b'{"detail":"nothing is at this path"}'))


def _getting(answer: Callable[[Scope], Awaitable[Response]]) -> AsgiApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] not in {"GET", "HEAD"}:
                raise MethodNotAllowed(["GET"])
            response = await answer(scope)
        except Exception as error:
            response = error_response(error, scope["path"])
        await send_response(send, response, with_body=scope["method"] != "HEAD")

    return app

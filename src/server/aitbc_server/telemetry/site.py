"""What operators are served over HTTP: `/metrics`, `/health/live` and `/health/ready`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

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
from aitbc_server.rest.openapi.part import (
    JSON,
    PUBLIC,
    Contents,
    Part,
    failures,
    get,
    success,
)
from aitbc_server.rest.site import Mount
from aitbc_server.telemetry.health import OK
from aitbc_server.telemetry.metrics import CONTENT_TYPE

_HEALTH = "Health"
_METRICS = "Metrics"
_LIVE = "/health/live"
_READY = "/health/ready"
_METRICS_PATH = "/metrics"
_ADMINS = Access(roles=frozenset({Role.ADMIN}))
_EVERYBODY = Access()


def health_mounts(
    checked: Callable[[], Awaitable[dict[str, str]]], warned: Callable[[], dict[str, str]]
) -> list[Mount]:
    """Returns the mounts of liveness, which says that the process answers, and of readiness.

    `checked` gives `ok` or a problem for each part; `warned` what broke and goes on.
    """

    async def live(_: Scope) -> Response:
        return json_response(200, orjson.dumps({"status": OK}))

    async def ready(_: Scope) -> Response:
        checks, warnings = await checked(), warned()
        is_ready = all(check == OK for check in checks.values())
        told: dict[str, object] = {"status": OK if is_ready else "unavailable", "checks": checks}
        if warnings:
            told["warnings"] = warnings
        body = orjson.dumps(told)
        if is_ready:
            return json_response(200, body)
        return json_response(503, body, ((b"retry-after", b"1"),))

    return [
        Mount(prefix + path, _getting(answer), part=HEALTH)
        for prefix in ("", "/api")
        for path, answer in ((_LIVE, live), (_READY, ready))
    ]


class Shown(Protocol):
    """What is measured."""

    async def text(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        ...


def metrics_mount(metrics: Shown, gate: Gate | None, *, is_open: bool = False) -> Mount:
    """Returns the mount of the metrics; without a gate they are for whoever gets there.

    The gate lets in admins or, `is_open`, whomever it lets call.
    """
    access = _EVERYBODY if is_open else _ADMINS

    async def show(scope: Scope) -> Response:
        if gate is not None:
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
            }
            gate.admit(access, headers, (scope.get("client") or ("",))[0])
        text = await metrics.text()
        length = (b"content-length", b"%d" % len(text))
        return Response(200, ((b"content-type", CONTENT_TYPE), length), text)

    return Mount(_METRICS_PATH, _getting(show), part=METRICS)


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


def _health() -> Contents:
    status = {"type": "string", "enum": [OK, "unavailable"]}
    checks = {
        "type": "object",
        "description": f"`{OK}`, or what is wrong, by what was checked.",
        "additionalProperties": {"type": "string"},
    }
    warnings = {
        "type": "object",
        "description": "What broke within the last ten minutes and was begun anew, by task. "
        "Absent when nothing did; the coordinator is ready in spite of it.",
        "additionalProperties": {"type": "string"},
    }
    readiness = {
        "type": "object",
        "properties": {"status": status, "checks": checks, "warnings": warnings},
        "required": ["status", "checks"],
    }
    live = {"type": "object", "properties": {"status": {"const": OK}}, "required": ["status"]}
    unready = failures([503], readiness)
    unready["503"]["description"] = "Not ready: `checks` says why."
    describe = partial(get, _HEALTH, security=PUBLIC)
    return Contents(
        {
            _LIVE: describe(
                "getLiveness",
                "Says that the process answers",
                {"200": success("It does.", JSON, live)},
            ),
            _READY: describe(
                "getReadiness",
                "Says whether the process can do its work: store, and stream",
                {"200": success("It can.", JSON, readiness), **unready},
            ),
        },
        {},
    )


def _metrics() -> Contents:
    item = get(
        _METRICS,
        "getMetrics",
        "Shows the metrics in Prometheus' text format",
        {
            "200": success("The metrics.", _text_type(), {"type": "string"}),
            **failures([401, 403, 429, 500, 503]),
        },
        description="Needs an admin's key, unless the coordinator is open and on loopback.",
    )
    # Not below `/api`, as nothing that scrapes looks for it there.
    return Contents({_METRICS_PATH: {"servers": [{"url": "/"}], **item}}, {})


def _text_type() -> str:
    return CONTENT_TYPE.decode().partition(";")[0]


HEALTH = Part(_HEALTH, "Tells whether the coordinator lives, and whether it is ready.", _health)
METRICS = Part(_METRICS, "Tells operators what happens.", _metrics)

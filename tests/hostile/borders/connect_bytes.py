"""Connect and gRPC-Web: messages, envelopes and headers that are nearly right."""

from __future__ import annotations

import base64
import gzip
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

import httpx
from google.protobuf import json_format

from tests.conftest import Launcher
from tests.envelopes import ended, envelope
from tests.hostile.borders.grpc_bytes import METHODS
from tests.hostile.borders.mutation import TEXTS, message_of, mutated
from tests.hostile.borders.victim import Attack, watched

_KINDS = (
    *("application/json", "application/proto"),
    *("application/connect+json", "application/connect+proto"),
    *("application/grpc-web", "application/grpc-web+json", "application/grpc-web-text"),
    *("application/grpc", "text/plain", "application/json; charset=utf-16"),
)
_HEADERS = (
    *("connect-protocol-version", "connect-timeout-ms", "connect-content-encoding"),
    *("content-encoding", "grpc-encoding", "grpc-timeout", "x-request-id", "accept-encoding"),
)
_VALUES = ("gzip", "identity", "br", "0", "1", "1S", "9999999999", "-1", "\xff", "a" * 300)
# Streams and waits last.
_PATIENCE_S = 0.5


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """The HTTP port of a coordinator."""
    coordinator = launcher.coordinator()
    async with watched(coordinator) as victim:

        async def attack(rng: random.Random) -> None:
            with suppress(httpx.TimeoutException):
                await _call(rng, victim.api)
            await victim.attacked()

        yield attack


async def _call(rng: random.Random, api: httpx.AsyncClient) -> None:
    method, kind = rng.choice(METHODS), rng.choice(_KINDS)
    path = f"/{method.containing_service.full_name}/{method.name}"
    message = message_of(rng, method.input_type)
    data = message.SerializeToString()
    if "json" in kind:
        with suppress(json_format.SerializeToJsonError):
            data = json_format.MessageToJson(message).encode()
    if rng.random() < 0.1:
        query = f"encoding={rng.choice(('json', 'proto'))}&message={quote(data[:9000])}"
        answer = await api.get(f"{path}?{query}{rng.choice(('', '&base64=1', '&connect=v1'))}")
    else:
        content = _body(rng, kind, data)
        answer = await api.post(
            path, content=content, headers=_headers(rng, kind), timeout=_PATIENCE_S
        )
    # Whatever it was, it is told in the protocol's words, and by none that nobody has thought of.
    over = ended(answer)
    assert over.code == "ok" or over.reason != "INTERNAL", (path, kind, answer.content[:1000])


def _body(rng: random.Random, kind: str, data: bytes) -> bytes:
    if rng.random() < 0.4:
        data = mutated(rng, data)
    if rng.random() < 0.2:
        data = gzip.compress(data)
    if "connect+" in kind or "grpc" in kind:
        data = envelope(data, rng.choice((0, 0, 0, 0, 1, 2, 128, 255)))
        data *= rng.choice((1, 1, 1, 1, 0, 2))
    if rng.random() < 0.2:
        data = mutated(rng, data)
    return base64.b64encode(data) if "text" in kind and rng.random() < 0.9 else data


def _headers(rng: random.Random, kind: str) -> dict[bytes, bytes]:
    headers = {b"content-type": kind.encode()}
    for _ in range(rng.choice((0, 0, 1, 2))):
        value = rng.choice((*_VALUES, *(text[:99] for text in TEXTS if text.isprintable())))
        headers[rng.choice(_HEADERS).encode()] = value.encode()
    return headers

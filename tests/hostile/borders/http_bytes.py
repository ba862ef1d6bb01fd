"""Bytes on the REST port: requests that are nearly right, cut anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conftest import Launcher
from tests.hostile.borders.mutation import TEXTS, mutated
from tests.hostile.borders.victim import Attack, watched

_METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"PRI", b"get")
_PATHS = (
    b"/v1/jobs",
    b"/v1/jobs:batch",
    b"/v1/jobs/job-1",
    b"/v1/jobs/available?miner_id=m&limit=3",
    b"/v1/chat/completions",
    b"/v1/usage?from=2026-01-01",
    b"/v1/receipts",
    b"/v1/stats",
    b"/explorer/blocks",
    b"/explorer/static/%2e%2e/x",
    b"/tile/0/000",
    b"/checkpoint",
    b"/openapi.json",
    b"/health",
    b"/",
    b"*",
    b"http://elsewhere/v1/jobs",
)
_FIELDS = (
    b"Host: localhost",
    b"Content-Type: application/json",
    b"Content-Type: text/plain",
    b"Accept: text/html;q=0.9, */*;q=zero",
    b"Accept: text/event-stream",
    b"Authorization: Bearer x",
    b"X-Api-Key: aitbc_x_y",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Length: 2",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: -1",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"Connection: close, upgrade",
    b"Last-Event-ID: 9-9",
    b"Idempotency-Key: it",
    b"X-Forwarded-For: 1.2.3.4, ::1",
    b"Origin: null",
    b"Trailer: x",
    b" folded: yes",
)
_BODIES = (
    b"",
    b"{}",
    b'{"prompt":"p","model":"m"}',
    b"1a\r\n" + b'{"prompt":"p","model":"m"}' + b"\r\n0\r\n\r\n",
    b"2;x=y\r\n{}\r\n0\r\nHost: b\r\n\r\n",
    b"ffffffffffffffff\r\n",
)
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_PATIENCE_S = 0.15


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """The REST port of a coordinator."""
    coordinator = launcher.coordinator()
    async with watched(coordinator) as victim:

        async def attack(rng: random.Random) -> None:
            answer = await _send(rng, coordinator.http, _requests(rng))
            assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:200]
            statuses = {int(status) for status in _STATUS.findall(answer)}
            assert 500 not in statuses, answer[:500]
            await victim.attacked()

        yield attack


def _requests(rng: random.Random) -> bytes:
    data = b"".join(_request(rng) for _ in range(rng.choice((1, 1, 1, 2, 5))))
    return mutated(rng, data) if rng.random() < 0.6 else data


def _request(rng: random.Random) -> bytes:
    fields = [_FIELDS[0], *rng.sample(_FIELDS, rng.randrange(5))]
    if rng.random() < 0.2:
        fields.append(b"x-request-id: " + rng.choice(TEXTS).encode())
    line = b"%b %b HTTP/1.1" % (rng.choice(_METHODS), rng.choice(_PATHS))
    return b"\r\n".join([line, *fields, b"", rng.choice(_BODIES)])


async def _send(rng: random.Random, address: str, data: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
        with contextlib.suppress(OSError):
            for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                writer.write(data[begin:end])
                await writer.drain()
                await asyncio.sleep(0)
            if rng.random() < 0.5:
                writer.write_eof()
            async with asyncio.timeout(_PATIENCE_S):
                while piece := await reader.read(65_536):
                    answer += piece
    finally:
        writer.transport.abort()
    return answer

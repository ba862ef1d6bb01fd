"""Strangers without a key do the worst they can, many at once, on both ports, beside one client.

The client has a key, and submits jobs one after the other: first alone, then beside the strangers.
These are a process of their own, which gives way to others: elsewhere they would take none of the
victim's processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scripts.processes import ROOT, Coordinator

from tests.conftest import Launcher
from tests.e2e.keys import create_key
from tests.hostile.http2 import Connection
from tests.hostile.victim import MIB, Cost, cost_of

STRANGERS = 64

_SUBMIT, _BATCH = "/aitbc.v1.JobService/SubmitJob", "/aitbc.v1.JobService/BatchSubmitJobs"
_EMPTY_JOBS = b"\x0a\x00" * (7 * MIB // 2)
_ENDLESS = b"\x00" + (8 * MIB - 64).to_bytes(4, "big") + b"\x0a" * (2 * MIB)
_HEAD = b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
_WATCH = b"GET /explorer/blocks:watch HTTP/1.1\r\nhost: localhost\r\n\r\n"
_HOME = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
# A stranger's connection lasts so long at most; then comes the next.
_VISIT_S = 5.0
_BREATH_S = 0.25
_NICE = 10


class Ports(NamedTuple):
    """Where a coordinator is, HOST:PORT of each."""

    http: str
    grpc: str


class Weather(NamedTuple):
    """What the strangers did to the coordinator, and to the client beside them."""

    most_mib: float
    after_mib: float
    health_median_s: float
    health_longest_s: float
    # Jobs a second.
    alone: float
    beside: float

    def missed(self) -> list[str]:
        """Returns the promises that were not kept, on a machine that has nothing else to do."""
        promises = {
            "memory grows by less than 200 MiB": self.most_mib < 200,
            "memory comes back": self.after_mib < 100,
            "/health takes 250 ms at the median": self.health_median_s <= 0.25,
            "/health takes 1 s at most": self.health_longest_s <= 1,
            "a client keeps half of its throughput": self.beside >= self.alone / 2,
        }
        return [promise for promise, is_kept in promises.items() if not is_kept]

    def __str__(self) -> str:
        return (
            f"memory at most +{self.most_mib:.0f} MiB, after it +{self.after_mib:.0f} MiB; "
            f"/health median {self.health_median_s * 1000:.0f} ms, "
            f"longest {self.health_longest_s * 1000:.0f} ms; "
            f"a client's jobs a second alone {self.alone:.0f}, beside {self.beside:.0f}"
        )


async def storm(launcher: Launcher, seconds: float) -> Weather:
    """Has strangers attack a new coordinator for so long."""
    coordinator = launcher.coordinator("--auth", "required")
    # No limit of its own slows the client down.
    names = ("requests_per_second", "pending_jobs", "jobs_in_flight")
    unlimited = [part for name in names for part in ("--limit", f"{name}=0")]
    key = create_key(coordinator.data, "client", *unlimited)
    headers = {"X-Api-Key": key}
    async with httpx.AsyncClient(base_url=coordinator.url, headers=headers, timeout=60) as api:
        alone = await _jobs_a_second(api, min(seconds, 5.0))
        async with cost_of(coordinator) as cost, _strangers(coordinator):
            beside = await _jobs_a_second(api, seconds)
        after_mib = await _calm(cost, api)
    assert coordinator.program.exit_status is None, coordinator.program.tail()
    return Weather(
        cost.most_mib,
        after_mib,
        statistics.median(cost.health_s),
        max(cost.health_s),
        alone,
        beside,
    )


async def _calm(cost: Cost, api: httpx.AsyncClient) -> float:
    """Returns the least that is left within some seconds."""
    least = cost.now_mib
    until = time.monotonic() + 10
    while time.monotonic() < until and least > 50:
        await api.get("/health")
        least = min(least, cost.now_mib)
    return least


async def _jobs_a_second(api: httpx.AsyncClient, seconds: float) -> float:
    count, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        answer = await api.post("/v1/jobs", json={"prompt": "hello", "model": "m"})
        assert answer.status_code == 201, answer.text
        count += 1
    return count / (time.monotonic() - begun)


@asynccontextmanager
async def _strangers(coordinator: Coordinator) -> AsyncIterator[None]:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, coordinator.http, coordinator.grpc, cwd=ROOT
    )
    try:
        yield
        assert program.returncode is None, "the strangers are gone"
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()


async def _attack(victim: Ports) -> None:
    """Attacks until it is killed."""
    attacks = (_bomb, _endless, _watches, _trailers, _pipeline, _body, _pages, _connections)
    many = (attacks[n % len(attacks)] for n in range(STRANGERS))
    await asyncio.gather(*(_again(attack, victim) for attack in many))


async def _again(attack: Callable[[Ports], Awaitable[Any]], victim: Ports) -> None:
    while True:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_VISIT_S):
                await attack(victim)
        await asyncio.sleep(_BREATH_S)


async def _bomb(victim: Ports) -> None:
    async with grpc.aio.insecure_channel(victim.grpc) as channel:
        call = channel.unary_unary(_BATCH, lambda data: data, lambda data: data)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call(_EMPTY_JOBS)


async def _endless(victim: Ports) -> None:
    async with Connection(victim.grpc) as one:
        streams = [one.call(path) for path in (_SUBMIT, "/grpc.health.v1.Health/Check") * 10]
        await asyncio.gather(*(one.send(stream, _ENDLESS) for stream in streams))


async def _watches(victim: Ports) -> None:
    async with grpc.aio.insecure_channel(victim.grpc) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        calls = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(100)]
        try:
            for call in calls:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.read()
        finally:
            for call in calls:
                call.cancel()


async def _send(victim: Ports, first: bytes, again: bytes) -> None:
    host, _, port = victim.http.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.01)
    finally:
        writer.transport.abort()


async def _trailers(victim: Ports) -> None:
    await _send(victim, _HEAD + _CHUNKED + b"2\r\n{}\r\n0\r\n", b"a:b\r\n" * 10_000)


async def _pipeline(victim: Ports) -> None:
    await _send(victim, _WATCH, _HOME * 2000)


async def _body(victim: Ports) -> None:
    await _send(victim, _HEAD + b"content-length: 8000000\r\n\r\n", b'{"messages":[{},{},' * 3000)


async def _pages(victim: Ports) -> None:
    async with httpx.AsyncClient(base_url=f"http://{victim.http}") as api:
        for path in ("/v1/stats", "/explorer/stats", "/v1/receipts", "/openapi.json"):
            with contextlib.suppress(httpx.TransportError):
                await api.get(path)


async def _connections(victim: Ports) -> None:
    host, _, port = victim.grpc.rpartition(":")
    writers = []
    try:
        for _ in range(50):
            _, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        await asyncio.sleep(1)
    finally:
        for writer in writers:
            writer.transport.abort()


if __name__ == "__main__":
    os.nice(_NICE)
    asyncio.run(_attack(Ports(*sys.argv[1:])))

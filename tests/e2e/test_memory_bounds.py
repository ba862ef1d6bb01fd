"""Peers that take nothing cannot make the coordinator's memory grow with what is meant for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import httpx
import psutil
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import miners_pb2_grpc, work_pb2
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.stream_miner import stream_miner

MIB = 1024 * 1024
PROMPT = "x" * (MIB // 2)
JOBS = 400
# What is meant for the miner: far more than it may cost.
WAITING_BYTES = JOBS * len(PROMPT)
MOST_BYTES = 80 * MIB
SETTLED_S = 2.0
FOLLOWERS = 50
DELTAS = 100


@pytest.fixture
def frugal(launcher: Launcher) -> Coordinator:
    """A coordinator that keeps few prompts in memory."""
    return launcher.coordinator(env=CLEAN_ENV | {"AITBC_QUEUE_MEMORY_BYTES": str(8 * MIB)})


@pytest.fixture
async def api(frugal: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    """Its REST API."""
    async with httpx.AsyncClient(base_url=frugal.url, timeout=70) as client:
        yield client


def memory(coordinator: Coordinator) -> int:
    """Returns the bytes that a coordinator has in memory."""
    return int(psutil.Process(coordinator.program.pid).memory_info().rss)


async def counts(api: httpx.AsyncClient) -> dict[str, int]:
    """Returns the jobs by status."""
    return dict((await api.get("/v1/stats")).json()["jobs"])


class SilentReader:
    """A miner that says what a test has it say, and reads nothing."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = miners_pb2_grpc.MinerServiceStub(channel).Work()

    async def say(self, **message: object) -> None:
        await self._call.write(work_pb2.MinerMessage(**message))  # type: ignore[arg-type]

    async def hello(self, window: int) -> None:
        capacity = work_pb2.Capacity(max_outstanding_jobs=window)
        hello = work_pb2.Hello(miner_id="silent-reader", models=["m"], capacity=capacity)
        await self.say(hello=hello)


async def test_a_miner_that_never_reads_costs_no_more_than_a_buffer(
    frugal: Coordinator, api: httpx.AsyncClient
) -> None:
    # The first large request also pays for buffers that stay.
    for _ in range(JOBS // 10):
        jobs = [{"prompt": PROMPT, "model": "m"}] * 10
        answer = await api.post("/v1/jobs:batch", json={"jobs": jobs})
        assert answer.status_code == 201, answer.text
    before = memory(frugal)
    async with grpc.aio.insecure_channel(frugal.grpc) as channel:
        miner = SilentReader(channel)
        await miner.hello(window=10 * JOBS)
        most = 0
        loop = asyncio.get_running_loop()
        since = loop.time()
        # Until nothing has changed for a while: the coordinator waits for the miner.
        while loop.time() - since < SETTLED_S:
            await miner.say(heartbeat=work_pb2.Heartbeat())
            running = (await counts(api))["running"]
            if memory(frugal) > most or running < JOBS:
                most, since = max(most, memory(frugal)), loop.time()
    assert most - before < MOST_BYTES < WAITING_BYTES


async def test_readers_of_a_stream_that_never_read_cost_no_more_than_buffers(
    frugal: Coordinator, api: httpx.AsyncClient
) -> None:
    job_id = (await api.post("/v1/jobs", json={"prompt": "p", "model": "m"})).json()["job_id"]
    async with stream_miner(frugal.grpc, "m", window=1) as miner, followers(frugal, job_id):
        assignment = await miner.assignment()
        before = most = memory(frugal)
        for sequence in range(DELTAS):
            await miner.say_more(assignment, sequence, text="x" * (64 * 1024))
        loop = asyncio.get_running_loop()
        since = loop.time()
        while loop.time() - since < SETTLED_S:
            await counts(api)
            if memory(frugal) > most:
                most, since = memory(frugal), loop.time()
    assert most - before < MOST_BYTES < FOLLOWERS * DELTAS * 64 * 1024


@asynccontextmanager
async def followers(coordinator: Coordinator, job_id: str) -> AsyncIterator[None]:
    """Follows a job many times, and reads no more than that it is followed."""
    host, _, port = coordinator.http.rpartition(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(FOLLOWERS)]
    request = f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nHost: {host}\r\n\r\n"
    for reader, writer in connections:
        writer.write(request.encode())
        assert b"200" in await reader.readline()
        # Takes no more from the kernel, whose buffers then fill.
        writer.transport.pause_reading()  # type: ignore[attr-defined]
    yield
    for _, writer in connections:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_miner_that_only_talks_is_not_read_for_ever(
    frugal: Coordinator, api: httpx.AsyncClient
) -> None:
    async with grpc.aio.insecure_channel(frugal.grpc) as channel:
        miner = SilentReader(channel)
        await miner.hello(window=1)
        before = memory(frugal)
        # Each is news of a lease that it never had, and would be answered.
        said = 0
        try:
            while said < 400:
                updates = [
                    work_pb2.Update(
                        lease_id=f"lease-{said}-{number}", delta=work_pb2.Delta(text="x" * 1000)
                    )
                    for number in range(1000)
                ]
                async with asyncio.timeout(5):
                    await miner.say(updates=work_pb2.Updates(updates=updates))
                said += 1
        except TimeoutError:
            pass
        grown = memory(frugal) - before
        assert (await counts(api))["pending"] == 0
    assert said < 400, "everything was read"
    assert grown < MOST_BYTES

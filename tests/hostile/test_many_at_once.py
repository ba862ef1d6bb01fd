"""Hundreds of requests that come in one turn of the loop, each within its bounds, leave it free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import httpx
import orjson
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc
from tests.conftest import Launcher
from tests.hostile.test_http_requests import Socket
from tests.hostile.test_single_calls import TRIES, Cost

MANY = 200
# Below the size from which bodies are read aside.
BODY_BYTES = 98_000
PATIENCE_S = 60


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    """A coordinator with the default bounds."""
    return launcher.coordinator()


@pytest.fixture
async def api(victim: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    """The REST API of the coordinator under attack."""
    async with httpx.AsyncClient(base_url=victim.url, timeout=PATIENCE_S) as client:
        yield client


def wrong_at_last(begin: str, item: str, last: str, end: str) -> bytes:
    """Returns a body of many items of which only the last one is wrong."""
    count = (BODY_BYTES - len(begin) - len(last) - len(end)) // (len(item) + 1)
    return (begin + f"{item}," * count + last + end).encode()


TURN = '{"role":"user","content":"x"}'
BODIES = {
    "a chat": (
        "/v1/chat/completions",
        wrong_at_last('{"model":"m","messages":[', TURN, "{}", "]}"),
    ),
    "a job": ("/v1/jobs", wrong_at_last('{"model":"m","messages":[', TURN, "{}", "]}")),
    "a batch": (
        "/v1/jobs:batch",
        wrong_at_last('{"jobs":[', f'{{"model":"m","messages":[{TURN}]}}', "{}", "]}"),
    ),
    "a response": ("/v1/responses", wrong_at_last('{"model":"m","input":[', TURN, "{}", "]}")),
    "a metadata": (
        "/v1/jobs",
        orjson.dumps({"model": "m", "prompt": "p", "metadata": {f"k{n}": n for n in range(9000)}}),
    ),
}


async def assert_never_stopped(cost: Cost, attack: Callable[[], Awaitable[None]]) -> None:
    """Attacks: a busy machine makes a turn long now and then, and an attack every time."""
    seen = []
    for _ in range(TRIES):
        before, _ = await cost.stalls()
        await attack()
        after, longest = await cost.stalls()
        if after == before:
            return
        seen.append(f"{after - before} stalls, longest {longest:.3f} s")
    pytest.fail("; ".join(seen))


@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_come_all_at_once_do_not_stop_the_loop(
    name: str, victim: Coordinator, api: httpx.AsyncClient
) -> None:
    path, body = BODIES[name]
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()

    async def attack() -> None:
        async with AsyncExitStack() as stack:
            ones = [await stack.enter_async_context(Socket(victim.http)) for _ in range(MANY)]
            for one in ones:
                one.writer.write(head + body[:-1])
                await one.writer.drain()
            # The loop is done with all that came before when it answers.
            assert (await api.get("/health/live")).status_code == 200
            for one in ones:
                one.writer.write(body[-1:])
            for one in ones:
                assert (await one.answer())[0] == 400

    await assert_never_stopped(Cost(victim, api), attack)


async def test_pages_that_are_asked_for_all_at_once_do_not_stop_the_loop(
    victim: Coordinator, api: httpx.AsyncClient
) -> None:
    job = {"model": "m", "prompt": "x" * 800, "metadata": {f"k{n}": "v" for n in range(10)}}
    jobs = orjson.dumps({"jobs": [job] * 100})
    await api.post("/v1/jobs:batch", content=jobs, headers={"content-type": "application/json"})
    async with grpc.aio.insecure_channel(victim.grpc) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)

        async def over_grpc() -> None:
            calls = [stub.ListJobs(jobs_pb2.ListJobsRequest(limit=100)) for _ in range(MANY)]
            pages = await asyncio.gather(*calls)
            assert {len(page.jobs) for page in pages} == {100}

        await assert_never_stopped(Cost(victim, api), over_grpc)

    async def over_http() -> None:
        request = b"GET /v1/jobs?limit=100 HTTP/1.1\r\nhost: localhost\r\n\r\n"
        async with AsyncExitStack() as stack:
            ones = [await stack.enter_async_context(Socket(victim.http)) for _ in range(MANY)]
            for one in ones:
                one.writer.write(request)
            for one in ones:
                assert (await one.answer())[0] == 200

    await assert_never_stopped(Cost(victim, api), over_http)

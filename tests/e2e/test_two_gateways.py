"""Requests with one key, at one gateway or at another, share a job of the coordinator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, work_pb2
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.stream_miner import StreamMiner, stream_miner
from tests.e2e.test_gateway import start_gateway

MODEL = "llama3.2"
KEY = {"idempotency-key": "once"}
PATIENCE_S = 30
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
ANSWER = work_pb2.Completion(
    result="hel lo",
    usage=jobs_pb2.Usage(prompt_tokens=1, completion_tokens=2),
    finish_reason="stop",
)
STOPPED = work_pb2.Failure(code="CANCELLED", message="stopped")


@pytest.fixture
def coordinator(launcher: Launcher) -> Coordinator:
    """A coordinator of the test's own."""
    return launcher.coordinator()


@pytest.fixture
def doors(coordinator: Coordinator, launcher: Launcher, tmp_path: Path) -> list[str]:
    """Base URLs of two gateways, and of the coordinator's own REST API."""
    hosts = [start_gateway(coordinator, launcher, tmp_path / f"{name}.log") for name in "ab"]
    return [*(f"http://{host}" for host in hosts), coordinator.url]


@asynccontextmanager
async def joined(url: str, miner: StreamMiner, lease_id: str, sequence: int) -> AsyncIterator[Any]:
    """Gives the lines of a stream that has joined: it has been told a word."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http,
        http.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=KEY
        ) as stream,
    ):
        await miner.say_more(miner.held[lease_id], sequence, "hel ")
        lines = stream.aiter_lines()
        await anext(lines)
        yield lines


def ask(url: str) -> asyncio.Task[httpx.Response]:
    """Begins a request."""

    async def asking() -> httpx.Response:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
            return await http.post("/v1/chat/completions", json=CHAT, headers=KEY)

    return asyncio.create_task(asking())


async def abandonments(coordinator: Coordinator, count: int) -> None:
    """Returns when so many calls to cancel have been answered over gRPC."""
    metric = re.compile(r'aitbc_grpc_calls_total\{[^}]*CancelJob"[^}]*\} (\d+)')
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(base_url=coordinator.url) as http:
        while True:
            told = (await http.get("/metrics")).text
            if sum(int(one[1]) for one in metric.finditer(told)) >= count:
                return


@pytest.mark.parametrize("stays", [1, 2])
async def test_a_client_that_leaves_ends_no_job_that_another_waits_for(
    coordinator: Coordinator, doors: list[str], stays: int
) -> None:
    async with stream_miner(coordinator.grpc, MODEL, window=1) as miner:
        leaving = ask(doors[0])
        assignment = await miner.assignment()
        async with joined(doors[stays], miner, assignment.lease_id, 0) as lines:
            leaving.cancel()
            await asyncio.wait({leaving})
            await abandonments(coordinator, 1)
            await miner.answer(assignment, ANSWER, 1)
            rest = [line async for line in lines]
        assert rest[-2:] == ["data: [DONE]", ""]
        assert miner.cancelled.empty()


@pytest.mark.parametrize("door", [1, 2])
async def test_whoever_follows_a_job_waits_for_it(
    coordinator: Coordinator, doors: list[str], door: int
) -> None:
    async with (
        stream_miner(coordinator.grpc, MODEL, window=1) as miner,
        httpx.AsyncClient(base_url=doors[door], timeout=PATIENCE_S) as http,
    ):
        first = ask(doors[0])
        assignment = await miner.assignment()
        path = f"/v1/jobs/{assignment.job.job_id}/stream"
        async with http.stream("GET", path) as second:
            async with http.stream("GET", path) as one:
                await told(one.aiter_lines(), "running")
                first.cancel()
                await abandonments(coordinator, 1)
                rest = second.aiter_lines()
                await told(rest, "running")
            await miner.say_more(assignment, 0, "hel ")
            await told(rest, "hel ")
            assert miner.cancelled.empty()
        async with asyncio.timeout(PATIENCE_S):
            assert (await miner.cancelled.get()).lease_id == assignment.lease_id
        await miner.fail(assignment, STOPPED)


async def told(lines: AsyncIterator[str], word: str) -> None:
    """Reads up to a word."""
    async with asyncio.timeout(PATIENCE_S):
        while word not in await anext(lines):
            pass


async def test_the_last_client_that_leaves_ends_the_job_and_the_next_has_a_new_one(
    coordinator: Coordinator, doors: list[str]
) -> None:
    async with stream_miner(coordinator.grpc, MODEL, window=1) as miner:
        first = ask(doors[0])
        assignment = await miner.assignment()
        async with joined(doors[1], miner, assignment.lease_id, 0):
            first.cancel()
            await abandonments(coordinator, 1)
            assert miner.cancelled.empty()
        async with asyncio.timeout(PATIENCE_S):
            assert (await miner.cancelled.get()).lease_id == assignment.lease_id
        # They come while the miner stops, and share one job again.
        again = [ask(url) for url in doors]
        await miner.fail(assignment, STOPPED)
        anew = await miner.assignment()
        await miner.complete([anew])
        answers = await asyncio.gather(*again)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.headers["x-job-id"] for answer in answers} == {anew.job.job_id}
    assert anew.job.job_id != assignment.job.job_id


async def test_a_restart_does_not_forget_that_nobody_waited(
    launcher: Launcher, tmp_path: Path
) -> None:
    env = CLEAN_ENV | {"AITBC_LEASE_SECONDS": "3", "AITBC_HEARTBEAT_SECONDS": "0.5"}
    before = launcher.coordinator(env=env)
    async with stream_miner(before.grpc, MODEL, window=1) as miner:
        first = ask(before.url)
        assignment = await miner.assignment()
        first.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await miner.cancelled.get()
        async with httpx.AsyncClient(base_url=before.url, timeout=PATIENCE_S) as http:
            async with asyncio.timeout(PATIENCE_S):
                path = f"/v1/jobs/{assignment.job.job_id}"
                while "cancel_requested_at" not in (await http.get(path)).json():
                    pass
        before.program.kill()
    after = launcher.again(before, env=env)
    again = ask(after.url)
    async with stream_miner(after.grpc, MODEL, window=1, miner_id="heir") as heir:
        anew = await heir.assignment()
        await heir.complete([anew])
        answer = await again
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-job-id"] == anew.job.job_id != assignment.job.job_id
    async with httpx.AsyncClient(base_url=after.url, timeout=PATIENCE_S) as http:
        old = (await http.get(f"/v1/jobs/{assignment.job.job_id}")).json()
    assert (old["status"], old["error"]["code"]) == ("cancelled", "ABANDONED")

"""No message of a miner stops the loop for long, whatever it tells of the jobs that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc.v1.work_pb2 import Delta, Update
from tests.conftest import Launcher
from tests.e2e.stream_miner import StreamMiner, stream_miner
from tests.hostile.test_single_calls import Cost, assert_cheap

IDS = {"params": {"return_token_ids": True, "max_tokens": 1_000_000}}
TOOLS = {"tools": [{"name": "f"}]}
EMBED = {"task": "embed", "inputs": [{"text": "a"}] * 64}
# As much as a message holds, and as a result does.
LONGEST_VECTOR = 29_687
MOST_VECTOR = 16_300


def deltas(count: int, said: Callable[[int], Delta]) -> Callable[[], list[Update]]:
    return lambda: [Update(sequence=n, delta=said(n)) for n in range(count)]


def ids(count: int) -> Callable[[], list[Update]]:
    return deltas(count, lambda n: Delta(text="a", tokens=90_000, token_ids=[n] * 90_000))


def calls(count: int) -> Callable[[], list[Update]]:
    part = jobs_pb2.ToolCallPart(id="c", name="f", arguments="a")
    parts = [jobs_pb2.ToolCallPart(index=k % 128) for k in range(1000)]
    for one in parts:
        one.MergeFrom(part)
    return deltas(count, lambda _: Delta(tool_calls=parts))


def vectors(length: int) -> Callable[[], list[Update]]:
    output = jobs_pb2.TaskOutput(vector=[0.12345678] * length)
    completion = work_pb2.Completion(usage=jobs_pb2.Usage(prompt_tokens=64), outputs=[output] * 64)
    return lambda: [Update(completion=completion)]


MESSAGES: dict[str, tuple[dict[str, Any], Callable[[], list[Update]], str]] = {
    "ids that nobody asked for": ({}, ids(50), "ANSWER_REFUSED"),
    "ids": (IDS, ids(50), "RESULT_TOO_LARGE"),
    "the same update again and again": (
        IDS,
        lambda: [Update(delta=Delta(tokens=30_000, token_ids=[7] * 30_000))] * 200,
        "",
    ),
    "parts of calls": (TOOLS, calls(55), ""),
    "parts of more calls than an answer has": (TOOLS, calls(90), "RESULT_TOO_LARGE"),
    "vectors": (EMBED, vectors(MOST_VECTOR), ""),
    "vectors of no model": (EMBED, vectors(LONGEST_VECTOR), "ANSWER_REFUSED"),
}


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    """A coordinator with the default bounds."""
    return launcher.coordinator()


@pytest.fixture
async def api(victim: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    """The REST API of the coordinator under attack."""
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        yield client


@pytest.fixture
async def miner(victim: Coordinator) -> AsyncIterator[StreamMiner]:
    """A miner that says what a test says, and is believed nothing else."""
    tasks = [jobs_pb2.JOB_TASK_GENERATE, jobs_pb2.JOB_TASK_EMBED]
    async with stream_miner(victim.grpc, "m", window=1, tasks=tasks) as opened:
        yield opened


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_of_a_miner_stops_nobody_for_long(
    name: str, victim: Coordinator, api: httpx.AsyncClient, miner: StreamMiner
) -> None:
    asked, told, code = MESSAGES[name]
    body = {"model": "m", "max_attempts": 1, **({} if "inputs" in asked else {"prompt": "p"})}

    async def tell() -> None:
        answer = await api.post("/v1/jobs", json={**body, **asked})
        assert answer.status_code == 201, answer.text
        assignment = await miner.assignment()
        lease_id = assignment.lease_id
        updates = told()
        for update in updates:
            update.lease_id = lease_id
        ends = code or updates[-1].HasField("completion")
        if not ends:
            done = work_pb2.Completion(finish_reason="stop")
            updates.append(Update(lease_id=lease_id, sequence=len(updates), completion=done))
        del miner.held[lease_id]
        await miner.say(work_pb2.MinerMessage(updates=work_pb2.Updates(updates=updates)))
        job = await until_over(api, answer.json()["job_id"])
        assert job.get("error_code", "") == code, job

    await assert_cheap(Cost(victim, api), tell, most_mib=200)


async def until_over(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """Returns a job that is over, without its answer."""
    async with asyncio.timeout(30):
        while True:
            [job] = (await api.get("/v1/jobs?limit=1&view=basic")).json()["jobs"]
            assert job["job_id"] == job_id
            if job["status"] in ("completed", "failed"):
                return {**job, "error_code": job.get("error", {}).get("code", "")}


async def test_vectors_of_more_than_an_answer_holds_are_not_waited_for(
    api: httpx.AsyncClient, miner: StreamMiner
) -> None:
    # 2,048 inputs are 32 jobs, of which eight have nearly as much as one answer may.
    body = {"model": "m", "input": ["a"] * 2048}
    asking = asyncio.create_task(api.post("/v1/embeddings", json=body))
    message = vectors(MOST_VECTOR)
    answered = 0
    while not asking.done():
        waiting = asyncio.create_task(miner.assignment())
        await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            break
        lease_id = waiting.result().lease_id
        del miner.held[lease_id]
        [update] = message()
        update.lease_id = lease_id
        await miner.say(work_pb2.MinerMessage(updates=work_pb2.Updates(updates=[update])))
        answered += 1
    refused = await asking
    assert refused.status_code == 400
    assert "give fewer inputs" in refused.json()["error"]["message"]
    # One more may be on its way.
    assert answered <= 12

"""Outputs of tasks as large as may be cost little, when they come and when they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, work_pb2
from tests.conftest import Launcher
from tests.e2e.stream_miner import StreamMiner, stream_miner
from tests.hostile.test_large_results import PATIENCE_S, until_completed
from tests.hostile.test_single_calls import Cost, assert_cheap

# What a result may have.
MOST_BYTES = 4 * 1024 * 1024
MOST_TOKENS, MOST_TEXTS = 1_048_576, 262_144
_ROOM = 64 * 1024


def vectors(count: int) -> list[jobs_pb2.TaskOutput]:
    length = min(16_000, (MOST_BYTES - _ROOM) // count // 4 - 16)
    return [jobs_pb2.TaskOutput(vector=[0.12345678] * length)] * count


def tokens(count: int) -> list[jobs_pb2.TaskOutput]:
    # The shortest tokens there are, of which a result holds most.
    return [jobs_pb2.TaskOutput(token_ids=[1] * (MOST_TOKENS // count))] * count


def texts_of_tokens(count: int) -> list[jobs_pb2.TaskOutput]:
    each = MOST_TEXTS // count
    return [jobs_pb2.TaskOutput(token_ids=[1] * each, tokens=[""] * each)] * count


def texts(count: int) -> list[jobs_pb2.TaskOutput]:
    return [jobs_pb2.TaskOutput(text="\x01" * ((MOST_BYTES - _ROOM) // count))] * count


TASKS = [number for number in jobs_pb2.JobTask.values() if number]
IDS = {"return_token_ids": True}
EMBEDDINGS = "/v1/embeddings"
# What is asked, what comes, and a request of OpenAI's that is answered with it.
OUTPUTS: dict[str, tuple[dict[str, Any], list[jobs_pb2.TaskOutput], tuple[str, Any]]] = {
    "vectors": (
        {"task": "embed", "inputs": [{"text": "a"}] * 64},
        vectors(64),
        (EMBEDDINGS, {"input": ["a"] * 64}),
    ),
    "many vectors": (
        {"task": "embed", "inputs": [{"text": "a"}] * 2048},
        vectors(2048),
        (EMBEDDINGS, {"input": ["a"] * 64, "encoding_format": "base64"}),
    ),
    "tokens": (
        {"task": "tokenize", "inputs": [{"text": "a"}]},
        tokens(1),
        ("/tokenize", {"prompt": "a"}),
    ),
    "tokens and their texts": (
        {"task": "tokenize", "inputs": [{"text": "a"}], "params": IDS},
        texts_of_tokens(1),
        ("/tokenize", {"prompt": "a", "return_token_strs": True}),
    ),
    "texts": (
        {"task": "detokenize", "inputs": [{"token_ids": [1]}]},
        texts(1),
        ("/detokenize", {"tokens": [1]}),
    ),
}


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    """A coordinator with the default bounds."""
    return launcher.coordinator()


@pytest.fixture
async def api(victim: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    """The REST API of the coordinator under attack."""
    async with httpx.AsyncClient(base_url=victim.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def miner(victim: Coordinator) -> AsyncIterator[StreamMiner]:
    """A miner that does all that may be asked."""
    async with stream_miner(victim.grpc, "m", window=1, tasks=TASKS) as opened:
        yield opened


@pytest.mark.parametrize("name", OUTPUTS)
async def test_large_outputs_cost_little_when_they_come_and_when_they_are_read(
    name: str, victim: Coordinator, api: httpx.AsyncClient, miner: StreamMiner
) -> None:
    asks, outputs, (path, body) = OUTPUTS[name]
    cost = Cost(victim, api)
    made: list[str] = []

    async def answer() -> None:
        assignment = await miner.assignment()
        count = len(assignment.job.inputs)
        # One for each input of this job, of which a request may make several.
        usage = jobs_pb2.Usage(prompt_tokens=1)
        completion = work_pb2.Completion(usage=usage, outputs=outputs[:count], finish_reason="stop")
        await miner.answer(assignment, completion)
        made.append(assignment.job.job_id)

    async def arrive() -> None:
        answered = await api.post("/v1/jobs", json={"model": "m", **asks})
        assert answered.status_code == 201, answered.text
        await answer()
        await until_completed(api, made[-1])

    await assert_cheap(cost, arrive)
    for read_path in ("/v1/jobs?limit=100", f"/v1/jobs/{made[0]}", f"/v1/jobs/{made[0]}/stream"):

        async def read(read_path: str = read_path) -> None:
            async with api.stream("GET", read_path) as answer:
                assert answer.status_code == 200
                async for _ in answer.aiter_bytes():
                    pass

        await assert_cheap(cost, read)

    async def ask() -> None:
        answered = asyncio.create_task(answer())
        async with api.stream("POST", path, json={"model": "m", **body}) as told:
            async for _ in told.aiter_bytes():
                pass
            assert told.status_code == 200
        await answered

    await assert_cheap(cost, ask)
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(victim.grpc, options=options) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)

        async def get() -> None:
            await stub.GetJob(jobs_pb2.GetJobRequest(job_id=made[0]))

        async def stream() -> None:
            async for _ in stub.StreamJob(jobs_pb2.StreamJobRequest(job_id=made[0])):
                pass

        await assert_cheap(cost, get)
        await assert_cheap(cost, stream)


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_vectors_of_many_jobs_cost_little(
    form: str, victim: Coordinator, api: httpx.AsyncClient, miner: StreamMiner
) -> None:
    # As much as one answer may have, of 32 jobs.
    output = jobs_pb2.TaskOutput(vector=[0.12345678] * 3_072)
    body = {"model": "m", "input": ["a"] * 2048, "encoding_format": form}

    async def answer() -> None:
        for _ in range(32):
            assignment = await miner.assignment()
            outputs = [output] * len(assignment.job.inputs)
            usage = jobs_pb2.Usage(prompt_tokens=1)
            done = work_pb2.Completion(usage=usage, outputs=outputs, finish_reason="stop")
            await miner.answer(assignment, done)

    async def ask() -> None:
        answering = asyncio.create_task(answer())
        async with api.stream("POST", EMBEDDINGS, json=body) as told:
            async for _ in told.aiter_bytes():
                pass
            assert told.status_code == 200
        await answering

    await assert_cheap(Cost(victim, api), ask)

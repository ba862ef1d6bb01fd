"""Results as large as may be cost little, when they come and in every form that tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, work_pb2
from tests.conftest import Launcher
from tests.e2e.stream_miner import StreamMiner, stream_miner
from tests.hostile.test_single_calls import Cost, assert_cheap

# What a result may have, of which probabilities count twice.
MOST_BYTES = 4 * 1024 * 1024
# As many as may be asked for with their probabilities.
LIKELY_TOKENS = 4_990
MOST_TOKENS = 1_000_000
PATIENCE_S = 60
TURN = {"role": "user", "content": "x"}
WITH_LOGPROBS = "include[]=message.output_text.logprobs"


def likely() -> work_pb2.Completion:
    others = [jobs_pb2.TokenLogprob(token=f"word{n:02}", logprob=-n / 7) for n in range(20)]
    one = jobs_pb2.TokenLogprob(token="abcd", logprob=-0.5, top=others)  # noqa: S106 - a word
    return work_pb2.Completion(
        result="abcd" * LIKELY_TOKENS, finish_reason="stop", logprobs=[one] * LIKELY_TOKENS
    )


def calling() -> work_pb2.Completion:
    arguments = '{"a":"' + "x" * (MOST_BYTES // 128 - 64) + '"}'
    calls = [jobs_pb2.ToolCall(id=f"c{n}", name="f", arguments=arguments) for n in range(128)]
    return work_pb2.Completion(finish_reason="tool_calls", tool_calls=calls)


RESULTS: dict[str, Callable[[], work_pb2.Completion]] = {
    "probabilities": likely,
    "text": lambda: work_pb2.Completion(result="x" * (MOST_BYTES - 64), finish_reason="stop"),
    "text that JSON writes as more": lambda: work_pb2.Completion(
        result="\x01é" * (MOST_BYTES // 3 - 64), finish_reason="stop"
    ),
    "text that JSON writes as six times as much": lambda: work_pb2.Completion(
        result="\x01" * (MOST_BYTES - 64), finish_reason="stop"
    ),
    "reasoning": lambda: work_pb2.Completion(
        result="x", reasoning="y" * (MOST_BYTES - 64), finish_reason="stop"
    ),
    "calls": calling,
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
def cost(victim: Coordinator, api: httpx.AsyncClient) -> Cost:
    """What calls cost it."""
    return Cost(victim, api)


class Answering:
    """A miner that answers the next job with one result."""

    def __init__(self, miner: StreamMiner, completion: work_pb2.Completion) -> None:
        self._miner = miner
        self._completion = completion
        completion.usage.completion_tokens = LIKELY_TOKENS

    async def answer(self) -> str:
        """Answers; returns the job."""
        assignment = await self._miner.assignment()
        await self._miner.answer(assignment, self._completion)
        return assignment.job.job_id


@asynccontextmanager
async def answering(victim: Coordinator, name: str) -> AsyncIterator[Answering]:
    async with stream_miner(victim.grpc, "m", window=1) as miner:
        yield Answering(miner, RESULTS[name]())


async def until_completed(api: httpx.AsyncClient, job_id: str) -> None:
    # To ask for the job would be a call of its own, as large.
    async with asyncio.timeout(PATIENCE_S):
        while True:
            listed = await api.get("/v1/jobs?limit=1&status=completed")
            if [job["job_id"] for job in listed.json()["jobs"]] == [job_id]:
                return


def reads(job_id: str) -> Iterator[str]:
    """Yields the paths of all that a job is read by."""
    response = f"/v1/responses/resp_{job_id.removeprefix('job-')}"
    yield from ("/v1/jobs?limit=100", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/stream", response)
    yield from (f"{response}?{WITH_LOGPROBS}", f"{response}?stream=true&{WITH_LOGPROBS}")


def requests(*, has_logprobs: bool, has_calls: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields requests that are answered with a result."""
    asks = {"model": "m", "max_tokens": MOST_TOKENS}
    chat: dict[str, Any] = {**asks, "messages": [TURN]}
    text: dict[str, Any] = {**asks, "prompt": "x"}
    response: dict[str, Any] = {"model": "m", "input": "x"}
    if has_logprobs:
        chat |= {"max_tokens": LIKELY_TOKENS, "logprobs": True, "top_logprobs": 20}
        text |= {"max_tokens": LIKELY_TOKENS, "logprobs": 20}
        response |= {"top_logprobs": 20, "include": ["message.output_text.logprobs"]}
    message: dict[str, Any] = {**asks, "messages": [TURN]}
    if has_calls:
        chat |= {"tools": [{"type": "function", "function": {"name": "f"}}]}
        response |= {"tools": [{"type": "function", "name": "f"}]}
        message |= {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    # Those of completions cannot have any.
    texts = [] if has_calls else [("/v1/completions", text)]
    for path, body in (("/v1/chat/completions", chat), *texts):
        yield path, body
        yield path, {**body, "stream": True}
    # Which never ask for probabilities.
    if not has_logprobs:
        yield "/v1/messages", message
    yield "/v1/responses", response


@pytest.mark.parametrize("name", RESULTS)
async def test_a_large_result_costs_little_when_it_comes_and_when_it_is_read(
    name: str, victim: Coordinator, api: httpx.AsyncClient, cost: Cost
) -> None:
    has_logprobs = name == "probabilities"
    job: dict[str, Any] = {
        "model": "m",
        "prompt": "p",
        "params": {"logprobs": 20} if has_logprobs else {},
    }
    has_calls = name == "calls"
    job |= {"tools": [{"name": "f"}]} if has_calls else {}
    made: list[str] = []
    async with answering(victim, name) as miner:

        async def arrive() -> None:
            await api.post("/v1/jobs", json=job)
            made.append(await miner.answer())
            await until_completed(api, made[-1])

        await assert_cheap(cost, arrive)
        for path in reads(made[0]):

            async def read(path: str = path) -> None:
                async with api.stream("GET", path) as answer:
                    assert answer.status_code == 200
                    text = b"".join([piece async for piece in answer.aiter_bytes()])
                assert b"TOO_MUCH_UNREAD" not in text

            await assert_cheap(cost, read)
        for path, body in requests(has_logprobs=has_logprobs, has_calls=has_calls):

            async def ask(path: str = path, body: dict[str, Any] = body) -> None:
                answered = asyncio.create_task(miner.answer())
                async with api.stream("POST", path, json=body) as answer:
                    text = b"".join([piece async for piece in answer.aiter_bytes()])
                    assert answer.status_code == 200, text[:300]
                await answered

            await assert_cheap(cost, ask)
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(victim.grpc, options=options) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)

        async def get() -> None:
            await stub.GetJob(jobs_pb2.GetJobRequest(job_id=made[0]))

        await assert_cheap(cost, get)


async def test_answers_that_are_too_large_together_are_refused(
    victim: Coordinator, api: httpx.AsyncClient, cost: Cost
) -> None:
    text = "x" * (MOST_BYTES - 64)

    async def ask() -> None:
        asking = asyncio.create_task(
            api.post("/v1/chat/completions", json={"model": "m", "messages": [TURN], "n": 64})
        )
        done = work_pb2.Completion(result=text, finish_reason="stop")
        for _ in range(3):
            await miner.answer(await miner.assignment(), done)
        answer = await asking
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")

    async with stream_miner(victim.grpc, "m", window=3) as miner:
        # The others are cancelled: of those that the miner has, it is told so.
        await assert_cheap(cost, ask)

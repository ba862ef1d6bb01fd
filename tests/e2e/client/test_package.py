"""The Python package against a real coordinator: what a user's program would do."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripts.processes import Coordinator

from aitbc_client import (
    AsyncClient,
    Client,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    Job,
    JobCancelled,
    JobStatus,
    NotFound,
    Unavailable,
)
from tests.conftest import Launcher


def test_a_prompt_is_answered(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client:
        job = client.run("naïve 🙂", model="llama3.2", params={"max_tokens": 16, "stop": ["x"]})
        assert (job.result, job.status, job.attempt) == ("naïve 🙂", JobStatus.COMPLETED, 1)
        assert job.usage is not None
        assert job.usage.completion_tokens
        assert client.get(job.job_id) == job


def test_a_conversation_is_answered(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client:
        job = client.run([{"role": "user", "content": "hello"}], model="llama3.2")
        assert job.result


def test_one_client_serves_many_threads(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client, ThreadPoolExecutor(8) as threads:
        jobs = threads.map(lambda n: client.run(f"job {n}", model="llama3.2"), range(40))
        assert [job.result for job in jobs] == [f"job {n}" for n in range(40)]


def test_jobs_are_listed_over_pages(coordinator: Coordinator, model: str) -> None:
    with Client(coordinator.grpc) as client:
        made = [client.submit("x", model=model).job_id for _ in range(230)]
        found = [job.job_id for job in client.jobs(status="pending", model=model)]
        assert found == made[::-1]
        assert list(client.jobs(status=JobStatus.COMPLETED, model=model)) == []


def test_jobs_are_listed_by_time_and_briefly(coordinator: Coordinator, model: str) -> None:
    with Client(coordinator.grpc) as client:
        first, second, third = [client.submit("x", model=model).created_at for _ in range(3)]
        jobs = list(client.jobs(model=model, created_after=second))
        assert [job.created_at for job in jobs] == [third, second]
        # A time without a zone is UTC.
        before = list(client.jobs(model=model, created_before=second.replace(tzinfo=None)))
        assert [job.created_at for job in before] == [first]
        [brief] = client.jobs(model=model, created_after=third, brief=True)
        assert (brief.model, brief.created_at, brief.prompt) == (model, third, None)
        assert jobs[0].prompt == "x"


def test_a_cancelled_job_is_an_error_with_the_job(coordinator: Coordinator, model: str) -> None:
    with Client(coordinator.grpc) as client:
        submitted = client.submit("x", model=model)
        canceller = threading.Timer(0.0, client.cancel, [submitted.job_id])
        canceller.start()
        assert client.wait(submitted.job_id).status is JobStatus.CANCELLED
        canceller.join()
        with pytest.raises(Conflict) as conflict:
            client.cancel(submitted.job_id)
        assert conflict.value.error_code == "JOB_ALREADY_FINAL"


def test_a_job_that_takes_longer_than_asked_goes_on(coordinator: Coordinator, model: str) -> None:
    with Client(coordinator.grpc) as client:
        submitted = client.submit("x", model=model)
        with pytest.raises(DeadlineExceeded):
            client.wait(submitted.job_id, timeout_s=0.2)
        assert client.get(submitted.job_id).status is JobStatus.PENDING


def test_the_same_request_id_gives_the_same_job(coordinator: Coordinator, model: str) -> None:
    with Client(coordinator.grpc) as client:
        first, again = (client.submit("x", model=model, request_id=model) for _ in range(2))
        assert first == again
        with pytest.raises(Conflict) as conflict:
            client.submit("y", model=model, request_id=model)
        assert conflict.value.error_code == "IDEMPOTENCY_KEY_REUSED"


def test_errors_name_the_field(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client:
        with pytest.raises(InvalidRequest) as invalid:
            client.submit("x", model="llama3.2", params={"temperature": 9})
        assert invalid.value.field == "params.temperature"
        assert invalid.value.error_code == "INVALID_ARGUMENT"
        with pytest.raises(NotFound) as missing:
            client.get("job-nope")
        assert missing.value.error_code == "JOB_NOT_FOUND"


def test_miners_are_found(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client:
        [miner] = [one for one in client.miners(model="llama3.2") if one.miner_id == "shared-echo"]
        assert miner.slots


def test_nobody_there_is_said_in_time() -> None:
    with Client("127.0.0.1:1", timeout_s=0.5) as client, pytest.raises(Unavailable):
        client.get("job-nope")


def test_a_call_outlives_a_restart_of_the_coordinator(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    with Client(coordinator.grpc) as client:
        submitted = client.submit("x", model="llama3.2")
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.wait, submitted.job_id, 60.0)
            coordinator.program.kill()
            coordinator = launcher.again(coordinator)
            launcher.miner(coordinator)
            assert waiting.result(60).result == "x"


async def test_the_client_for_asyncio_does_the_same(coordinator: Coordinator, model: str) -> None:
    async with AsyncClient(coordinator.grpc) as client:
        jobs = await asyncio.gather(*(client.run(f"job {n}", model="llama3.2") for n in range(40)))
        assert [job.result for job in jobs] == [f"job {n}" for n in range(40)]
        submitted = await client.submit("x", model=model)
        assert [job.job_id async for job in client.jobs(model=model)] == [submitted.job_id]
        jobs_since = client.jobs(model=model, created_after=submitted.created_at, brief=True)
        assert [job.prompt async for job in jobs_since] == [None]
        running = asyncio.create_task(client.wait(submitted.job_id))
        await client.cancel(submitted.job_id)
        assert (await running).status is JobStatus.CANCELLED
        await client.delete(submitted.job_id)
        for unknown in ("job-nope", submitted.job_id):
            with pytest.raises(NotFound):
                await client.get(unknown)
        assert [one async for one in client.miners(model="llama3.2")]


async def test_a_run_that_is_cancelled_raises(coordinator: Coordinator, model: str) -> None:
    async with AsyncClient(coordinator.grpc) as client:
        running = asyncio.create_task(client.run("x", model=model))
        jobs: list[Job] = []
        while not jobs:
            jobs = [job async for job in client.jobs(model=model)]
        await client.cancel(jobs[0].job_id)
        with pytest.raises(JobCancelled) as cancelled:
            await running
        assert cancelled.value.job.job_id == jobs[0].job_id

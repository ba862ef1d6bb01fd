"""Many jobs at once: all complete, and no miner ever holds more than it said it takes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import grpc
import httpx

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc
from tests.conftest import Launcher
from tests.e2e.jobs import assert_all_complete, submit_many
from tests.e2e.stream_miner import stream_miner

JOBS = 1_000
SLOTS = 64


async def submit_at_once(address: str, count: int, model: str) -> list[str]:
    """Submits jobs in as many concurrent calls, and returns their ids."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        calls = [
            stub.SubmitJob(jobs_pb2.SubmitJobRequest(prompt=f"job {number}", model=model))
            for number in range(count)
        ]
        return [answer.job_id for answer in await asyncio.gather(*calls)]


def test_thousand_jobs_at_once_complete_on_two_miners(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    for miner_id in ("echo-1", "echo-2"):
        launcher.miner(coordinator, "--engine-opt", "latency=0.05", miner_id=miner_id, slots=SLOTS)
    job_ids = asyncio.run(submit_at_once(coordinator.grpc, JOBS, "llama3.2"))
    assert len(set(job_ids)) == JOBS

    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        most_running = watch_until_completed(api, JOBS, timeout_s=120)
        assert_all_complete(api, job_ids)
    assert set(most_running) == {"echo-1", "echo-2"}
    assert max(most_running.values()) <= SLOTS


def watch_until_completed(api: httpx.Client, count: int, *, timeout_s: float) -> Counter[str]:
    """Returns the most jobs that each miner was seen to run, looking as often as it can."""
    most: Counter[str] = Counter()
    deadline = time.monotonic() + timeout_s
    while api.get("/v1/stats").json()["jobs"]["completed"] < count:
        assert time.monotonic() < deadline, f"{count} jobs took longer than {timeout_s} s"
        for miner in api.get("/v1/miners").json().get("miners", []):
            most |= Counter({miner["miner_id"]: miner["running_jobs"]})
    return most


async def test_window_of_a_miner_is_never_exceeded(launcher: Launcher) -> None:
    window, jobs = 7, 300
    coordinator = launcher.coordinator()
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        job_ids = submit_many(api, jobs)
        async with stream_miner(coordinator.grpc, "llama3.2", window=window) as miner:
            for _ in range(jobs):
                await miner.assignment()
                # Ends some of what it holds, in any order, so that the window is often full.
                held = list(miner.held.values())
                if len(held) == window or (held and random.random() < 0.2):
                    await miner.complete(random.sample(held, random.randint(1, len(held))))
            await miner.complete(list(miner.held.values()))
            await asyncio.to_thread(assert_all_complete, api, job_ids)
    assert miner.most_held <= window

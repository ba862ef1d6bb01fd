"""The load, in a process of its own. Each kind prints one line of JSON: what it measured.

`python -m benchmarks.load submit|jobs|latency HOST:PORT NUMBER`; NUMBER is seconds for `submit`,
and jobs for the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time

import grpc
import uvloop

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, network_pb2, network_pb2_grpc
from benchmarks.shape import BATCH, CALLERS, MODEL, PROMPT

# Batches on their way at once.
_BATCHERS = 8
# How often the end of all jobs is looked for.
_LOOK_S = 0.01


async def submit(channel: grpc.aio.Channel, seconds: float) -> dict[str, float]:
    """Returns calls of SubmitJob a second, from callers that each wait for their answer."""
    stub = jobs_pb2_grpc.JobServiceStub(channel)
    request = jobs_pb2.SubmitJobRequest(prompt=PROMPT, model=MODEL)
    # Where keys are required: see auth.py.
    key = os.environ.get("KEY")
    metadata = (("x-api-key", key),) if key else None
    began = time.perf_counter()

    async def call_until_over() -> int:
        calls = 0
        while time.perf_counter() - began < seconds:
            await stub.SubmitJob(request, metadata=metadata)
            calls += 1
        return calls

    calls = sum(await asyncio.gather(*(call_until_over() for _ in range(CALLERS))))
    return {"per_second": calls / (time.perf_counter() - began)}


async def jobs(channel: grpc.aio.Channel, count: int) -> dict[str, float]:
    """Returns jobs a second, from the first submit until the last is completed."""
    job_stub = jobs_pb2_grpc.JobServiceStub(channel)
    network = network_pb2_grpc.NetworkServiceStub(channel)
    one = jobs_pb2.SubmitJobRequest(prompt=PROMPT, model=MODEL)
    batch = jobs_pb2.BatchSubmitJobsRequest(jobs=[one] * BATCH)
    batches = iter(range(count // BATCH))

    async def completed() -> int:
        return (await network.GetStats(network_pb2.GetStatsRequest())).jobs.completed

    async def submit_batches() -> None:
        for _ in batches:
            await job_stub.BatchSubmitJobs(batch)

    before = await completed()
    began = time.perf_counter()
    await asyncio.gather(*(submit_batches() for _ in range(_BATCHERS)))
    submitted = count // BATCH * BATCH
    while await completed() < before + submitted:  # noqa: ASYNC110 - it is in another process
        await asyncio.sleep(_LOOK_S)
    return {"per_second": submitted / (time.perf_counter() - began)}


async def latency(channel: grpc.aio.Channel, count: int) -> dict[str, float]:
    """Returns the times from submit to result in milliseconds, one job after the other."""
    stub = jobs_pb2_grpc.JobServiceStub(channel)
    request = jobs_pb2.SubmitJobRequest(prompt=PROMPT, model=MODEL)
    times_ms = []
    for _ in range(count):
        began = time.perf_counter()
        submitted = await stub.SubmitJob(request)
        job = await stub.GetJob(jobs_pb2.GetJobRequest(job_id=submitted.job_id, wait=60))
        if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
            raise RuntimeError(f"the job is {job.status}, not completed")
        times_ms.append((time.perf_counter() - began) * 1000)
    return {
        "median_ms": statistics.median(times_ms),
        "p99_ms": statistics.quantiles(times_ms, n=100)[98],
    }


async def _measure(kind: str, address: str, number: str) -> dict[str, float]:
    async with grpc.aio.insecure_channel(address) as channel:
        match kind:
            case "submit":
                return await submit(channel, float(number))
            case "jobs":
                return await jobs(channel, int(number))
            case "latency":
                return await latency(channel, int(number))
    raise SystemExit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    print(json.dumps(uvloop.run(_measure(*sys.argv[1:]))))

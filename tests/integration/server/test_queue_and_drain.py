"""Why a job waits, and miners that an administrator drains, over real gRPC."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2
from aitbc_server.api.errors import from_rpc_error
from tests.e2e.keys import create_key
from tests.integration.server.harness import Client, coordinator


class Admin:
    """An administrator of the coordinator."""

    def __init__(self, data: Path) -> None:
        self._metadata = (("x-api-key", create_key(data, "admin")),)

    async def drain(self, client: Client, miner_id: str) -> miners_pb2.Miner:
        """Drains a miner."""
        request = miners_pb2.DrainMinerRequest(miner_id=miner_id)
        return await client.miners.DrainMiner(request, metadata=self._metadata)

    async def resume(self, client: Client, miner_id: str) -> miners_pb2.Miner:
        """Ends the drain of a miner."""
        request = miners_pb2.ResumeMinerRequest(miner_id=miner_id)
        return await client.miners.ResumeMiner(request, metadata=self._metadata)


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    return Admin(tmp_path)


async def reason(call: Awaitable[object]) -> str:
    """Returns why a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return from_rpc_error(failed.value).reason


async def test_a_job_says_where_it_stands_from_submit_to_end(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        waiting = await client.queue(job_id)
        assert waiting.reason == jobs_pb2.WAIT_REASON_NO_MINER
        assert (waiting.position, waiting.able_miner_count) == (1, 0)
        async with client.miner() as miner:
            [assignment] = await miner.assignments()
            running = await client.queue(job_id)
            assert running.status == jobs_pb2.JOB_STATUS_RUNNING
            assert running.explanation == "the job runs on the miner miner-1"
            assert not running.HasField("position")
            await miner.complete(assignment.lease_id)
            await client.job(job_id, wait=10)
        done = await client.queue(job_id)
        assert done.status == jobs_pb2.JOB_STATUS_COMPLETED
        assert done.explanation == "the job is completed"
        unknown = jobs_pb2.GetJobQueueRequest(job_id="job-unknown")
        assert await reason(client.jobs.GetJobQueue(unknown)) == "JOB_NOT_FOUND"


async def test_a_drained_miner_finishes_and_gets_nothing_new_over_reconnects_and_restarts(
    tmp_path: Path, admin: Admin
) -> None:
    async with coordinator(tmp_path) as client:
        async with client.miner() as miner:
            first = await client.submit()
            [assignment] = await miner.assignments()
            drained = await admin.drain(client, "miner-1")
            assert drained.status == miners_pb2.MINER_STATUS_DRAINING
            assert drained.running_jobs == 1
            second = await client.submit()
            waiting = await client.queue(second)
            assert [m.state for m in waiting.unable_miners] == [jobs_pb2.MINER_STATE_DRAINING]
            await miner.complete(assignment.lease_id)
            assert (await client.job(first, wait=10)).status == jobs_pb2.JOB_STATUS_COMPLETED
        async with client.miner():
            again = await client.miners.GetMiner(miners_pb2.GetMinerRequest(miner_id="miner-1"))
            assert again.status == miners_pb2.MINER_STATUS_DRAINING
            assert again.drained_at == drained.drained_at
            assert (await client.queue(second)).able_miner_count == 0
    async with coordinator(tmp_path) as client, client.miner() as miner:
        assert (await client.queue(second)).reason == jobs_pb2.WAIT_REASON_NO_MINER
        resumed = await admin.resume(client, "miner-1")
        assert resumed.status == miners_pb2.MINER_STATUS_ONLINE
        assert not resumed.HasField("drained_at")
        [assignment] = await miner.assignments()
        assert assignment.job.job_id == second


async def test_a_drained_miner_may_not_claim_but_may_complete(tmp_path: Path, admin: Admin) -> None:
    async with coordinator(tmp_path) as client:
        register = miners_pb2.RegisterMinerRequest(miner_id="poller", capabilities=["m"])
        await client.miners.RegisterMiner(register)
        held, free = await client.submit(), await client.submit()
        await client.jobs.ClaimJob(jobs_pb2.ClaimJobRequest(job_id=held, miner_id="poller"))
        await admin.drain(client, "poller")
        again = await admin.drain(client, "poller")
        assert again.status == miners_pb2.MINER_STATUS_DRAINING
        await client.miners.RegisterMiner(register)
        available = await client.jobs.ListAvailableJobs(
            jobs_pb2.ListAvailableJobsRequest(miner_id="poller")
        )
        assert list(available.jobs) == []
        claim = jobs_pb2.ClaimJobRequest(job_id=free, miner_id="poller")
        assert await reason(client.jobs.ClaimJob(claim)) == "MINER_DRAINED"
        done = jobs_pb2.CompleteJobRequest(job_id=held, miner_id="poller", result="done")
        job = await client.jobs.CompleteJob(done)
        assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
        await admin.resume(client, "poller")
        await client.jobs.ClaimJob(claim)


async def test_only_an_administrator_drains_and_only_a_miner_that_registered(
    tmp_path: Path, admin: Admin
) -> None:
    async with coordinator(tmp_path) as client:
        request = miners_pb2.DrainMinerRequest(miner_id="unknown")
        assert await reason(client.miners.DrainMiner(request)) == "UNAUTHENTICATED"
        assert await reason(admin.drain(client, "unknown")) == "MINER_NOT_FOUND"

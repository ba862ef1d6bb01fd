"""What an API notes of its request is told to that API again, and to nobody else."""

from __future__ import annotations

from pathlib import Path

from aitbc.v1 import jobs_pb2, miners_pb2
from tests.integration.server.harness import coordinator

NOTES = '{"instructions": true}'


async def test_an_owner_who_gets_the_job_is_told_its_notes_and_no_miner_is(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        await client.miners.RegisterMiner(
            miners_pb2.RegisterMinerRequest(miner_id="poller", capabilities=["m"])
        )
        request = jobs_pb2.SubmitJobRequest(prompt="hello", model="m", api_notes=NOTES)
        first, second = [(await client.jobs.SubmitJob(request)).job_id for _ in range(2)]
        claim = jobs_pb2.ClaimJobRequest(job_id=first, miner_id="poller")
        assert not (await client.jobs.ClaimJob(claim)).api_notes
        complete = jobs_pb2.CompleteJobRequest(job_id=first, miner_id="poller", result="x")
        assert not (await client.jobs.CompleteJob(complete)).api_notes
        async with client.miner() as miner:
            [assignment] = await miner.assignments()
            assert (assignment.job.job_id, assignment.job.api_notes) == (second, "")
            await miner.complete(assignment.lease_id)
            await miner.expect("acks")

        assert (await client.job(first)).api_notes == NOTES
        listed = await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())
        assert [job.api_notes for job in listed.jobs] == ["", ""]
        stream = client.jobs.StreamJob(jobs_pb2.StreamJobRequest(job_id=first))
        *_, final = [event async for event in stream]
        assert (final.job.status, final.job.api_notes) == (jobs_pb2.JOB_STATUS_COMPLETED, "")

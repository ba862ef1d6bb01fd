"""Lists of jobs: how much of each is told, and those of a span of time, by gRPC and by REST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2, work_pb2
from tests.integration.server.harness import Client, coordinator

# What a basic view has of a completed job.
BASIC = {
    *("job_id", "status", "model", "miner_id", "attempt", "finish_reason", "receipt_id", "usage"),
    *("created_at", "started_at", "completed_at"),
}
FULL = BASIC | {"prompt", "result", "params", "metadata", "max_attempts", "tools", "tool_calls"}


async def _completed(client: Client) -> str:
    async with client.miner() as miner:
        job_id = await client.submit(
            "what was asked",
            params=jobs_pb2.GenerationParams(max_tokens=5),
            metadata={"note": "a note of mine"},
            tools=[jobs_pb2.Tool(name="f")],
        )
        [assignment] = await miner.assignments()
        completion = work_pb2.Completion(
            result="what was answered",
            finish_reason="stop",
            usage=jobs_pb2.Usage(prompt_tokens=1, completion_tokens=2),
            tool_calls=[jobs_pb2.ToolCall(id="c", name="f", arguments="{}")],
        )
        update = work_pb2.Update(lease_id=assignment.lease_id, completion=completion)
        await miner.send(updates=work_pb2.Updates(updates=[update]))
        await miner.expect("acks")
    return job_id


async def _listed(client: Client, **fields: Any) -> list[jobs_pb2.Job]:
    return list((await client.jobs.ListJobs(jobs_pb2.ListJobsRequest(**fields))).jobs)


async def test_a_view_tells_the_texts_or_not(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        job_id = await _completed(client)
        [whole] = await _listed(client)
        [full] = await _listed(client, view=jobs_pb2.JOB_VIEW_FULL)
        [basic] = await _listed(client, view=jobs_pb2.JOB_VIEW_BASIC)
        assert whole == full
        assert {field.name for field, _ in full.ListFields()} == FULL
        assert {field.name for field, _ in basic.ListFields()} == BASIC
        for name in BASIC:
            assert getattr(basic, name) == getattr(full, name)
        assert basic.job_id == job_id
        for text in (b"what was asked", b"what was answered", b"a note of mine"):
            assert text in full.SerializeToString()
            assert text not in basic.SerializeToString()
        for view, names in (("basic", BASIC), ("full", FULL), ("BASIC", BASIC), ("", FULL)):
            response = await http.get("/v1/jobs", params={"view": view})
            [told] = response.json()["jobs"]
            assert set(told) == names
        refused = await http.get("/v1/jobs", params={"view": "other"})
        assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_ARGUMENT")


async def test_a_view_of_jobs_in_each_status(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner(window=1) as miner:
        failing, running, waiting = [await client.submit() for _ in range(3)]
        [assignment] = await miner.assignments()
        await miner.fail(assignment.lease_id, retryable=False)
        await miner.next("assignments")
        basic = await _listed(client, view=jobs_pb2.JOB_VIEW_BASIC)
        full = await _listed(client)
        assert [job.job_id for job in basic] == [waiting, running, failing]
        for one, other in zip(basic, full, strict=True):
            for name in ("prompt", "max_attempts"):
                other.ClearField(name)
            assert one == other


async def test_pages_of_a_basic_view_are_full_whatever_the_jobs_hold(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        jobs = [await client.submit("x" * 1_000_000) for _ in range(6)]
        basic = await _listed(client, view=jobs_pb2.JOB_VIEW_BASIC, limit=6)
        assert [job.job_id for job in basic] == jobs[::-1]
        assert len(await _listed(client, limit=6)) < 6


@pytest.mark.parametrize("view", ["JOB_VIEW_BASIC", "JOB_VIEW_FULL"])
async def test_a_span_of_time_is_from_one_and_before_another(tmp_path: Path, view: str) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        ids = [await client.submit() for _ in range(5)]
        times = {job.job_id: job.created_at for job in await _listed(client)}

        async def both(**span: Timestamp) -> list[str]:
            found = [job.job_id for job in await _listed(client, view=view, **span)]
            params = {name: time.ToJsonString() for name, time in span.items()}
            told = await http.get("/v1/jobs", params={**params, "view": view})
            assert [job["job_id"] for job in told.json()["jobs"]] == found
            return found

        at = [times[job_id] for job_id in ids]
        assert await both(created_after=at[2]) == ids[:1:-1]
        assert await both(created_before=at[2]) == ids[1::-1]
        assert await both(created_after=at[1], created_before=at[4]) == ids[3:0:-1]
        assert await both(created_after=at[4], created_before=at[1]) == []
        # A little more than a microsecond is after it.
        later = Timestamp(seconds=at[2].seconds, nanos=at[2].nanos + 1)
        assert await both(created_after=later) == ids[:2:-1]
        assert await both(created_before=later) == ids[2::-1]
        ever = {
            "created_after": Timestamp(seconds=-62_135_596_800),
            "created_before": Timestamp(seconds=253_402_300_799),
        }
        assert await both(**ever) == ids[::-1]


async def test_what_is_no_time_is_refused(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        for name in ("created_after", "created_before"):
            refused = await http.get("/v1/jobs", params={name: "yesterday"})
            assert refused.status_code == 400
            assert name in refused.json()["detail"]

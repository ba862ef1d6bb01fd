"""Of a job with `store: false` nothing is left soon after its end, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.v1 import jobs_pb2, receipts_pb2
from aitbc_server import retention
from aitbc_server.domain.receipts import receipt_id_of
from tests.integration.server.harness import Client, coordinator
from tests.integration.server.test_deleting_jobs import erased
from tests.integration.server.test_deleting_jobs import gone as is_gone
from tests.integration.server.test_webhooks import create, serving
from tests.receiver import Receiver, status

ASKED, ANSWERED = "a prompt that is a secret", "an answer that is one, too"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_UNKEPT_SWEEP_S", 0.05)
    monkeypatch.setattr(retention, "_UNKEPT_S", 0.5)
    monkeypatch.setattr(retention, "_ERASE_S", 0.1)


async def submit(client: Client, **fields: Any) -> str:
    return await client.submit(ASKED, store=False, **fields)


async def gone(client: Client, job_id: str) -> None:
    """Returns when there is no such job."""
    async with httpx.AsyncClient(base_url=client.url) as http:
        await is_gone(http, job_id)


async def test_who_waits_gets_the_answer_and_then_nothing_but_the_receipt_is_left(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await submit(client, request_id="once")
        kept = await client.submit("hello", store=True)
        assert await submit(client, request_id="once") == job_id
        waiting = asyncio.create_task(client.job(job_id, wait=20))
        stream = client.jobs.StreamJob(jobs_pb2.StreamJobRequest(job_id=job_id))
        for assignment in await miner.assignments(2):
            await miner.complete(assignment.lease_id, ANSWERED)
        job = await waiting
        assert (job.result, job.HasField("store"), job.store) == (ANSWERED, True, False)
        events = [event async for event in stream]
        assert "".join(event.text for event in events) == ANSWERED

        await gone(client, job_id)
        assert (await client.job(kept)).status == jobs_pb2.JOB_STATUS_COMPLETED
        asked = receipts_pb2.GetReceiptRequest(receipt_id=receipt_id_of(job_id))
        receipt = await client.receipts.GetReceipt(asked)
        assert not receipt.HasField("disclosure")
        assert await submit(client, request_id="once") != job_id


@pytest.mark.parametrize("end", ["completed", "cancelled", "failed"])
async def test_it_is_gone_however_it_ended_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(retention, "_UNKEPT_S", 3600.0)
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await submit(client, max_attempts=1)
        [assignment] = await miner.assignments()
        if end == "completed":
            await miner.complete(assignment.lease_id, ANSWERED)
        elif end == "failed":
            await miner.fail(assignment.lease_id)
        else:
            await client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id))
            await miner.fail(assignment.lease_id)
        job = await client.job(job_id, wait=10)
        assert jobs_pb2.JobStatus.Name(job.status).endswith(end.upper())
    monkeypatch.setattr(retention, "_UNKEPT_S", 0.0)
    async with coordinator(tmp_path) as client:
        await gone(client, job_id)
        await erased(tmp_path, ASKED, ANSWERED)


async def test_one_that_waits_or_runs_stays(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner(window=1) as miner:
        waits, ended = await submit(client, model="unserved"), await submit(client)
        [assignment] = await miner.assignments()
        runs = await submit(client)
        await miner.complete(assignment.lease_id)
        await gone(client, ended)
        assert (await client.job(waits)).status == jobs_pb2.JOB_STATUS_PENDING
        assert (await client.job(runs)).status == jobs_pb2.JOB_STATUS_RUNNING


async def test_a_receiver_that_was_away_is_told_that_it_ended(tmp_path: Path) -> None:
    receiver = Receiver(status(500), status(500), status(204))
    async with serving(tmp_path, webhook_retry_seconds="0.1,2,2,2") as client:
        await create(client, receiver.url)
        job_id = await submit(client)
        await client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id))
        bodies = []
        for _ in range(3):
            message = await asyncio.to_thread(receiver.next)
            bodies.append(json.loads(message.body))
    receiver.close()
    assert bodies[-1]["data"] == {"job_id": job_id, "status": "cancelled"}
    assert bodies[-1]["type"] == bodies[0]["type"] == "job.cancelled"


async def test_it_is_asked_for_over_rest(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        body = {"model": "m", "prompt": ASKED, "store": False}
        job_id = (await http.post("/v1/jobs", json=body)).json()["job_id"]
        assert (await http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
        await gone(client, job_id)

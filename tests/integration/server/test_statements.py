"""What a polling miner states of its work, over gRPC and in the files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2, receipts_pb2
from tests.integration.server.harness import Client, coordinator
from tests.integration.server.test_deleting_jobs import erased

RESULT = "an answer"
HASH = hashlib.sha256(RESULT.encode()).hexdigest()


async def claimed(client: Client) -> str:
    """Returns a job that the miner `poller` has claimed."""
    register = miners_pb2.RegisterMinerRequest(miner_id="poller", capabilities=["m"])
    await client.miners.RegisterMiner(register)
    job_id = await client.submit()
    await client.jobs.ClaimJob(jobs_pb2.ClaimJobRequest(job_id=job_id, miner_id="poller"))
    return job_id


def completion(of_job: str, **statement: Any) -> jobs_pb2.CompleteJobRequest:
    """Returns what the miner delivers, with its statement changed so."""
    said = {"miner_id": "poller", "job_id": of_job, "result_hash": HASH, "signature": "my seal"}
    receipt = jobs_pb2.MinerStatement(**{**said, **statement})
    return jobs_pb2.CompleteJobRequest(job_id=of_job, result=RESULT, receipt=receipt)


async def test_a_statement_is_shown_as_it_came_without_what_nobody_knows(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await claimed(client)
        request = completion(job_id, completed_at="2026-01-24T15:00:05")
        said = jobs_pb2.MinerStatement.FromString(request.receipt.SerializeToString())
        # Field 1000, of a megabyte: of a newer version, or of somebody who fills disks.
        request.receipt.MergeFromString(b"\xc2\x3e\x80\x80\x40" + bytes(2**20))
        job = await client.jobs.CompleteJob(request)
        asked = receipts_pb2.GetReceiptRequest(receipt_id=job.receipt_id)
        receipt = await client.receipts.GetReceipt(asked)
        assert receipt.miner_statement == said
        assert receipt.HasField("is_miner_statement_verified")
        assert not receipt.is_miner_statement_verified
        listed = await client.receipts.ListReceipts(receipts_pb2.ListReceiptsRequest(job_id=job_id))
        assert not listed.receipts[0].HasField("miner_statement")


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ({"result_hash": "00" * 32}, "receipt.result_hash"),
        ({"job_id": "job-01k9zq4b5mr6t8vwxyz0123456"}, "receipt.job_id"),
        ({"completed_at": "yesterday"}, "receipt.completed_at"),
    ],
)
async def test_a_contradiction_is_named_over_grpc_too(
    tmp_path: Path, statement: dict[str, str], field: str
) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await claimed(client)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.jobs.CompleteJob(completion(job_id, **statement))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.value.details() or "").startswith(f"{field}: ")
        assert (await client.job(job_id)).status == jobs_pb2.JOB_STATUS_RUNNING


@pytest.mark.parametrize("said", ["another", "poller"])
async def test_a_request_that_contradicts_itself_is_refused_for_that(
    tmp_path: Path, said: str
) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await claimed(client)
        request = completion(job_id, miner_id=said)
        request.miner_id = "poller" if said == "another" else "another"
        for _ in range(2):  # of a job that is running, and of one that is done
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.jobs.CompleteJob(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (refused.value.details() or "").startswith("receipt.miner_id: ")
            await client.jobs.CompleteJob(completion(job_id))


async def test_a_statement_survives_a_restart_and_goes_from_the_files_with_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc_server.retention._ERASE_S", 0.1)
    seal = "a seal that nobody else has"
    async with coordinator(tmp_path) as client:
        job_id = await claimed(client)
        job = await client.jobs.CompleteJob(completion(job_id, signature=seal))
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        path = f"/v1/receipts/{job.receipt_id}"
        assert (await http.get(path)).json()["miner_statement"]["signature"] == seal
        assert (await http.delete(f"/v1/jobs/{job_id}")).status_code == 204
        assert "miner_statement" not in (await http.get(path)).json()
        await erased(tmp_path, seal)

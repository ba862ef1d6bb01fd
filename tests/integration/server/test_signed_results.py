"""Results of miners with a key, on the Work stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1 import jobs_pb2, receipts_pb2, work_pb2
from aitbc_miner.signing import Signer
from tests.integration.server.harness import FakeMiner, coordinator

REFUSED = work_pb2.CANCEL_REASON_SIGNATURE_REFUSED
Forge = Callable[[work_pb2.Updates], None]


def result(assignment: work_pb2.Assignment, text: str) -> work_pb2.Update:
    completion = work_pb2.Completion(result=text, usage=jobs_pb2.Usage(completion_tokens=1))
    return work_pb2.Update(lease_id=assignment.lease_id, completion=completion)


def signed(
    signer: Signer, results: list[tuple[work_pb2.Assignment, work_pb2.Update]]
) -> work_pb2.Updates:
    stated = [(a.job.job_id, a.lease_id, update.completion) for a, update in results]
    signature = signer.sign(stated)
    return work_pb2.Updates(updates=[update for _, update in results], signature=signature)


async def test_one_signature_covers_the_results_of_a_message(tmp_path: Path) -> None:
    signer = Signer(Ed25519PrivateKey.generate(), "miner-1")
    async with coordinator(tmp_path) as client, client.miner(public_key=signer.public_key) as miner:
        jobs = [await client.submit(str(number)) for number in range(3)]
        taken = await miner.assignments(3)
        updates = signed(signer, [(a, result(a, f"answer {a.job.prompt}")) for a in taken])
        await miner.send(updates=updates)
        for job_id in jobs:
            job = await client.job(job_id, wait=10)
            assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
            request = receipts_pb2.GetReceiptRequest(receipt_id=job.receipt_id)
            receipt = await client.receipts.GetReceipt(request)
            assert receipt.miner_signature.size == 3
            verdict = await client.receipts.VerifyReceipt(
                receipts_pb2.VerifyReceiptRequest(receipt=receipt)
            )
            outcomes = {check.name: check.outcome for check in verdict.checks}
            assert verdict.valid
            assert outcomes["miner_signature"] == receipts_pb2.CHECK_OUTCOME_PASSED


def no_signature(updates: work_pb2.Updates) -> None:
    updates.signature = b""


def another_result(updates: work_pb2.Updates) -> None:
    updates.updates[0].completion.result += "!"


def another_usage(updates: work_pb2.Updates) -> None:
    updates.updates[0].completion.usage.completion_tokens = 1000


def no_salt(updates: work_pb2.Updates) -> None:
    updates.updates[0].completion.result_salt = b""


@pytest.mark.parametrize("forge", [no_signature, another_result, another_usage, no_salt])
async def test_a_result_that_is_not_signed_fails_its_attempt_and_is_tried_again(
    tmp_path: Path, forge: Forge
) -> None:
    signer = Signer(Ed25519PrivateKey.generate(), "miner-1")
    async with coordinator(tmp_path) as client, client.miner(public_key=signer.public_key) as miner:
        job_id = await client.submit()
        [first] = await miner.assignments()
        updates = signed(signer, [(first, result(first, "answer"))])
        forge(updates)
        await miner.send(updates=updates)
        [cancellation] = (await miner.expect("cancellations")).cancellations.cancellations
        assert (cancellation.lease_id, cancellation.reason) == (first.lease_id, REFUSED)
        [second] = await miner.assignments()
        assert (second.job.job_id, second.attempt) == (job_id, 2)
        await miner.send(updates=signed(signer, [(second, result(second, "answer"))]))
        job = await client.job(job_id, wait=10)
        assert job.result == "answer"
        assert job.attempts[0].error.code == "MINER_SIGNATURE_REFUSED"


async def test_a_miner_that_signed_once_does_not_come_back_without_its_key(tmp_path: Path) -> None:
    signer = Signer(Ed25519PrivateKey.generate(), "miner-1")
    async with coordinator(tmp_path) as client:
        async with client.miner(public_key=signer.public_key):
            pass
        async with client.miner() as impostor:
            await client.submit()
            [assignment] = await impostor.assignments()
            await impostor.complete(assignment.lease_id)
            [refusal] = (await impostor.expect("cancellations")).cancellations.cancellations
            assert refusal.reason == REFUSED


async def test_a_key_of_another_size_ends_the_session(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        call = client.miners.Work()
        hello = work_pb2.Hello(miner_id="m1", models=["m"], public_key=b"short")
        await call.write(work_pb2.MinerMessage(hello=hello))
        code, reason = await FakeMiner(call).end()
        assert (code.name, reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")

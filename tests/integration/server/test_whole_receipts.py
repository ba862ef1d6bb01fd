"""Receipts cover the whole answer and all that was asked: what is changed of either is found."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1 import jobs_pb2, receipts_pb2, work_pb2
from aitbc_client import Outcome, Receipt
from aitbc_client.documents import document_of
from aitbc_miner.signing import Signer
from aitbc_server.api.contents import CONTENTS
from aitbc_server.ledger.audit import Audited, audit
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.ledger_file import open_ledger
from tests.integration.server.harness import Client, FakeMiner, coordinator

PAY = jobs_pb2.Tool(name="pay", parameters='{"type":"object"}')
HONEST, FORGED = '{"to":"bob","usd":1}', '{"to":"mallory","usd":100000}'
ASKED = {
    "tools": [PAY],
    "tool_choice": "pay",
    "params": jobs_pb2.GenerationParams(temperature=0.7, max_tokens=64),
}


def call(arguments: str) -> jobs_pb2.ToolCall:
    return jobs_pb2.ToolCall(id="call-1", name="pay", arguments=arguments)


def only_calls(assignment: work_pb2.Assignment) -> work_pb2.Update:
    """An answer that has no text at all."""
    completion = work_pb2.Completion(
        finish_reason="tool_calls",
        tool_calls=[call(HONEST)],
        usage=jobs_pb2.Usage(prompt_tokens=1, completion_tokens=9),
    )
    return work_pb2.Update(lease_id=assignment.lease_id, completion=completion)


def signed(
    signer: Signer, assignment: work_pb2.Assignment, update: work_pb2.Update
) -> work_pb2.Updates:
    signature = signer.sign([(assignment.job.job_id, assignment.lease_id, update.completion)])
    return work_pb2.Updates(updates=[update], signature=signature, statement_version=signer.version)


def signer_of(version: int) -> Signer:
    signer = Signer(Ed25519PrivateKey.generate(), "miner-1")
    signer.agree(version)
    return signer


async def answered(
    client: Client, miner: FakeMiner, signer: Signer | None
) -> tuple[jobs_pb2.Job, receipts_pb2.Receipt]:
    """Has a job answered with a call; returns it and its receipt."""
    job_id = await client.submit("pay bob", **ASKED)
    [assignment] = await miner.assignments()
    update = only_calls(assignment)
    updates = signed(signer, assignment, update) if signer else work_pb2.Updates(updates=[update])
    await miner.send(updates=updates)
    job = await client.job(job_id, wait=10)
    assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
    asked = receipts_pb2.GetReceiptRequest(receipt_id=job.receipt_id)
    return job, await client.receipts.GetReceipt(asked)


def audited(data: Path) -> Audited:
    with open_ledger(data, CONTENTS) as ledger:
        return audit(ledger)


@contextlib.contextmanager
def changing(data: Path) -> Iterator[sqlite3.Connection]:
    """Somebody who can write the files, but has no key."""
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as connection, connection:
        yield connection


@pytest.mark.parametrize("version", [None, 1, 2])
async def test_a_receipt_covers_an_answer_that_only_calls_tools(
    tmp_path: Path, version: int | None
) -> None:
    signer = signer_of(version) if version else None
    key = signer.public_key if signer else b""
    async with coordinator(tmp_path) as client, client.miner(public_key=key) as miner:
        job, receipt = await answered(client, miner, signer)
        verdict = await client.receipts.VerifyReceipt(
            receipts_pb2.VerifyReceiptRequest(receipt=receipt)
        )
    assert verdict.valid
    assert receipt.version == 2
    assert receipt.miner_signature.version == (2 if version == 2 else 0)
    shown, document = document_of(job), document_of(receipt)
    keys = [receipt.signature.public_key]

    def failed(**change: object) -> set[str]:
        made = Receipt(document).check(keys, job={**shown, **change}, signature_only=True)
        assert {one.outcome for one in made if one.name in ("request", "answer")} <= {
            Outcome.PASSED,
            Outcome.FAILED,
        }
        return {one.name for one in made if one.outcome is Outcome.FAILED}

    assert failed() == set()
    assert failed(tool_calls=[document_of(call(FORGED))]) == {"answer"}
    assert failed(finish_reason="stop") == {"answer"}
    assert failed(tools=[]) == {"request"}
    assert failed(params={"temperature": 0.7, "max_tokens": 65}) == {"request"}


@pytest.mark.parametrize("version", [None, 1, 2])
async def test_a_call_that_was_changed_in_the_files_is_found(
    tmp_path: Path, version: int | None
) -> None:
    signer = signer_of(version) if version else None
    key = signer.public_key if signer else b""
    async with coordinator(tmp_path) as client, client.miner(public_key=key) as miner:
        await answered(client, miner, signer)
    assert audited(tmp_path).receipts == 1
    details = jobs_pb2.Job(tool_calls=[call(FORGED)]).SerializeToString()
    with changing(tmp_path) as connection:
        connection.execute("UPDATE results SET details = ?1", (details,))
    with pytest.raises(LedgerWrong, match="receipt 0: its job has another answer"):
        audited(tmp_path)


async def test_what_was_asked_and_changed_in_the_files_is_found(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        await answered(client, miner, None)
    with changing(tmp_path) as connection:
        [(spec,)] = connection.execute("SELECT spec FROM specs").fetchall()
        job = jobs_pb2.Job.FromString(spec)
        job.tools[0].parameters = "{}"
        connection.execute("UPDATE specs SET spec = ?1", (job.SerializeToString(),))
    with pytest.raises(LedgerWrong, match="receipt 0: its job has another request"):
        audited(tmp_path)


def another_call(updates: work_pb2.Updates) -> None:
    updates.updates[0].completion.tool_calls[0].arguments = FORGED


def another_reason(updates: work_pb2.Updates) -> None:
    updates.updates[0].completion.finish_reason = "stop"


def another_version(updates: work_pb2.Updates) -> None:
    updates.statement_version = 1


def no_such_version(updates: work_pb2.Updates) -> None:
    updates.statement_version = 3


@pytest.mark.parametrize("forge", [another_call, another_reason, another_version, no_such_version])
async def test_a_miners_signature_covers_calls_and_finish_reason(
    tmp_path: Path, forge: object
) -> None:
    signer = signer_of(2)
    async with coordinator(tmp_path) as client, client.miner(public_key=signer.public_key) as miner:
        await client.submit("pay bob", **ASKED)
        [assignment] = await miner.assignments()
        updates = signed(signer, assignment, only_calls(assignment))
        assert callable(forge)
        forge(updates)
        await miner.send(updates=updates)
        [refusal] = (await miner.expect("cancellations")).cancellations.cancellations
        assert refusal.reason == work_pb2.CANCEL_REASON_SIGNATURE_REFUSED


async def test_a_job_of_before_has_its_hash_made_with_the_receipt(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit("pay bob", **ASKED)
    with changing(tmp_path) as connection:
        connection.execute("UPDATE specs SET request_hash = NULL")
    async with coordinator(tmp_path) as client, client.miner() as miner:
        [assignment] = await miner.assignments()
        await miner.send(updates=work_pb2.Updates(updates=[only_calls(assignment)]))
        assert (await client.job(job_id, wait=10)).status == jobs_pb2.JOB_STATUS_COMPLETED
    assert audited(tmp_path).receipts == 1
    with changing(tmp_path) as connection:
        job = jobs_pb2.Job(model="m", prompt="pay bob").SerializeToString()
        connection.execute("UPDATE specs SET spec = ?1", (job,))
    with pytest.raises(LedgerWrong, match="another request"):
        audited(tmp_path)


async def verdict_of(client: Client, receipt: receipts_pb2.Receipt, text: str) -> dict[str, int]:
    """Returns how the checks of what was asked and answered went."""
    asked = receipts_pb2.VerifyReceiptRequest(receipt=receipt, job=text)
    answer = await client.receipts.VerifyReceipt(asked)
    made = {check.name: check.outcome for check in answer.checks}
    opened: dict[str, int] = {
        name: made[name] for name in ("job", "prompt", "result", "request", "answer")
    }
    assert answer.valid == (receipts_pb2.CHECK_OUTCOME_FAILED not in made.values())
    return opened


CHANGES: dict[str, tuple[str, Any, str]] = {
    "prompt": ("prompt", "pay mallory", "prompt"),
    "model": ("model", "another", "request job"),
    "sampling": ("params", {"temperature": 0.70000001, "max_tokens": 64}, "request"),
    "choice": ("tool_choice", "auto", "request"),
    "tools": ("tools", [], "request"),
    "result": ("result", "paid", "result"),
    "calls": ("tool_calls", [{"id": "call-1", "name": "pay", "arguments": FORGED}], "answer"),
    "reason": ("finish_reason", "stop", "answer"),
    "reasoning": ("reasoning", "hm", "answer"),
    "job": ("job_id", "job-01k9zq4b5mr6t8vwxyz0123456", "job"),
    "miner": ("miner_id", "another", "job"),
    "attempt": ("attempt", 7, "job"),
    "usage": ("usage", {"prompt_tokens": 9999}, "job"),
    "time": ("started_at", "2026-01-24T15:00:01Z", "job"),
    "status": ("status", "failed", "job"),
    "prompts": ("inputs", [{"text": "another"}], "job"),
}


async def test_the_server_opens_a_receipt_for_whoever_holds_the_job(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job, receipt = await answered(client, miner, None)
        document = document_of(job)
        honest = await verdict_of(client, receipt, json.dumps(document))
        assert set(honest.values()) == {int(receipts_pb2.CHECK_OUTCOME_PASSED)}
        for name, value, found in CHANGES.values():
            text = json.dumps(document | {name: value})
            opened = await verdict_of(client, receipt, text)
            wrong = receipts_pb2.CHECK_OUTCOME_FAILED
            assert {one for one, how in opened.items() if how == wrong} >= {*found.split()}, name
        unopened = receipts_pb2.Receipt()
        unopened.CopyFrom(receipt)
        unopened.ClearField("disclosure")
        opened = await verdict_of(client, unopened, json.dumps(document))
        assert opened.pop("job") == receipts_pb2.CHECK_OUTCOME_PASSED
        assert set(opened.values()) == {int(receipts_pb2.CHECK_OUTCOME_FAILED)}
        # As the REST API answers it, too.
        async with httpx.AsyncClient(base_url=client.url) as api:
            text = (await api.get(f"/v1/jobs/{job.job_id}")).text
            body = {"receipt": (await api.get(f"/v1/receipts/{job.receipt_id}")).json()}
            answer = (await api.post("/v1/receipts/verify", json=body | {"job": text})).json()
            assert answer["valid"], answer
            outcomes = {one["name"]: one["outcome"] for one in answer["checks"]}
            assert (outcomes["request"], outcomes["answer"]) == ("passed", "passed")
            for broken in ("", "[]", "{", '{"colour": 1}', '{"params": {"temperature": "hot"}}'):
                refused = await api.post("/v1/receipts/verify", json=body | {"job": broken})
                assert refused.status_code == 400
                assert refused.json()["detail"].startswith("job"), refused.text

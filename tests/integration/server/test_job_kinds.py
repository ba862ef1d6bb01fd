"""Jobs that ask for more than a text: what goes to the miner, what may come back, what is kept."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1 import jobs_pb2, miners_pb2, receipts_pb2, work_pb2
from aitbc_client import Outcome, Receipt
from aitbc_client.documents import document_of
from aitbc_miner.signing import Signer
from aitbc_server.api.contents import CONTENTS
from aitbc_server.api.errors import from_rpc_error
from aitbc_server.ledger.audit import audit
from aitbc_server.store.ledger_file import open_ledger
from tests.integration.server.harness import Client, FakeMiner, coordinator

TOKENS: dict[str, Any] = {
    "prompt_token_ids": [7, 300, 70_000],
    "params": {"return_token_ids": True},
}
EMBED: dict[str, Any] = {
    "task": jobs_pb2.JOB_TASK_EMBED,
    "inputs": [{"text": "a"}, {"token_ids": [1, 2]}],
}
SCORE: dict[str, Any] = {
    "task": jobs_pb2.JOB_TASK_SCORE,
    "inputs": [{"text": "a", "text_pair": "b"}],
}
TOKENIZE: dict[str, Any] = {
    "task": jobs_pb2.JOB_TASK_TOKENIZE,
    "messages": [{"role": "user", "content": "hi"}],
    "params": {"return_token_ids": True},
}
DETOKENIZE: dict[str, Any] = {"task": jobs_pb2.JOB_TASK_DETOKENIZE, "inputs": [{"token_ids": [1]}]}
VECTORS: list[dict[str, Any]] = [{"vector": [0.1, -0.0]}, {"vector": [1e-30, 3.0]}]
IMAGE: dict[str, Any] = {
    "messages": [
        {"role": "user", "parts": [{"type": "image_url", "url": "https://example.org/a.png"}]}
    ],
    "params": {"stop": ["\n"]},
}


def miner_of(client: Client, **options: Any) -> AbstractAsyncContextManager[FakeMiner]:
    """Returns a miner that does all that may be asked of its model."""
    info = work_pb2.ModelInfo(
        model="m", tasks=[number for number in jobs_pb2.JobTask.values() if number]
    )
    return client.miner(infos=[info], **options)


async def submit(client: Client, **fields: Any) -> str:
    request = jobs_pb2.SubmitJobRequest(model="m", **fields)
    return (await client.jobs.SubmitJob(request)).job_id


async def answer(
    miner: FakeMiner, lease_id: str, signer: Signer | None = None, **said: Any
) -> None:
    """Sends a result."""
    completion = work_pb2.Completion(**{"finish_reason": "stop", **said})
    updates = work_pb2.Updates(updates=[work_pb2.Update(lease_id=lease_id, completion=completion)])
    if signer is not None:
        job_id = f"job-{lease_id.removeprefix('lease-').rpartition('-')[0]}"
        [update] = updates.updates
        updates.signature = signer.sign([(job_id, lease_id, update.completion)])
        updates.statement_version = signer.version
    await miner.send(updates=updates)


def token(text: str) -> jobs_pb2.TokenLogprob:
    return jobs_pb2.TokenLogprob(token=text, logprob=-1.5)


async def test_an_embedding_comes_back_whole_and_lists_are_without_it(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        job_id = await submit(client, **EMBED, dimensions=2)
        [assignment] = await miner.assignments()
        assert assignment.job.task == jobs_pb2.JOB_TASK_EMBED
        assert assignment.job.inputs[1].token_ids == [1, 2]
        assert assignment.job.dimensions == 2
        usage: dict[str, Any] = {"prompt_tokens": 3, "completion_tokens": 0, "cached_tokens": 3}
        await answer(miner, assignment.lease_id, outputs=VECTORS, usage=usage)

        job = await client.job(job_id, wait=10)
        assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
        assert job.result == ""
        assert [list(output.vector) for output in job.outputs] == [
            list(jobs_pb2.TaskOutput(**one).vector) for one in VECTORS
        ]
        assert job.usage == jobs_pb2.Usage(**usage)
        listed = await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())
        assert not listed.jobs[0].outputs
        assert not listed.jobs[0].inputs
        assert listed.jobs[0].task == jobs_pb2.JOB_TASK_EMBED


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (TOKENS, {"result": "x", "token_ids": [1], "stop_token_id": 9}),
        (EMBED, {"outputs": VECTORS}),
        (SCORE, {"outputs": [{"score": -0.25}]}),
        (TOKENIZE, {"outputs": [{"token_ids": [1, 2], "tokens": ["h", "i"]}]}),
        (DETOKENIZE, {"outputs": [{"text": ""}]}),
        (IMAGE, {"result": "a cat", "stop_string": "\n"}),
        (
            {
                "prompt": "a",
                "params": {"logit_bias": {5: -1.5, 11: 2}, "skip_special_tokens": False},
            },
            {"result": "b"},
        ),
    ],
    ids=["tokens", "embed", "score", "tokenize", "detokenize", "image", "params"],
)
async def test_every_kind_has_a_receipt_that_holds_with_its_miners_signature(
    tmp_path: Path, fields: dict[str, Any], said: dict[str, Any]
) -> None:
    signer = Signer(Ed25519PrivateKey.generate(), "miner-1")
    signer.agree(2)
    async with coordinator(tmp_path) as client:
        async with miner_of(client, public_key=signer.public_key) as miner:
            job_id = await submit(client, **fields)
            [assignment] = await miner.assignments()
            await answer(miner, assignment.lease_id, signer, **said)
            job = await client.job(job_id, wait=10)
            assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
        asked = receipts_pb2.GetReceiptRequest(receipt_id=job.receipt_id)
        receipt = document_of(await client.receipts.GetReceipt(asked))
        shown = document_of(job)
        checks = {check.name: check.outcome for check in Receipt(receipt).check([], job=shown)}
        for name in ("miner_signature", "job", "prompt", "result", "request", "answer"):
            assert checks[name] is Outcome.PASSED, name
        # What is changed of either is found.
        for name, whole in (("task", "request"), ("stop_string", "answer")):
            changed = {**shown, name: "other"}
            found = {c.name: c.outcome for c in Receipt(receipt).check([], job=changed)}
            assert found[whole] is Outcome.FAILED
    with open_ledger(tmp_path, CONTENTS) as ledger:
        assert audit(ledger).receipts == 1


async def test_a_prompt_of_tokens_is_told_as_the_model_was_given_it(tmp_path: Path) -> None:
    fields = {**TOKENS, "params": {"return_token_ids": True, "prompt_logprobs": 1, "max_tokens": 1}}
    details: dict[str, Any] = {
        "text": "seven",
        "token_ids": [7, 300, 70_000],
        # More than the tokens of the answer could be.
        "logprobs": [token("x" * 4096)] * 40,
    }
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        job_id = await submit(client, **fields)
        [assignment] = await miner.assignments()
        assert assignment.job.prompt_token_ids == TOKENS["prompt_token_ids"]
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        said: dict[str, Any] = {
            "result": "x",
            "token_ids": [5],
            "stop_token_id": 0,
            "prompt_details": details,
        }
        await answer(miner, assignment.lease_id, usage=usage, **said)

        job = await client.job(job_id, wait=10)
        assert job.prompt_token_ids == TOKENS["prompt_token_ids"]
        assert job.prompt_details == jobs_pb2.PromptDetails(**details)
        assert job.token_ids == [5]
        assert job.HasField("stop_token_id")
        listed = (await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())).jobs[0]
        for name in ("prompt_token_ids", "token_ids"):
            assert not getattr(listed, name)
        assert not listed.HasField("prompt_details")


async def read(stream: Any) -> jobs_pb2.JobEvent:
    event = await stream.read()
    assert isinstance(event, jobs_pb2.JobEvent)
    return event


async def test_the_ids_of_tokens_come_with_their_text_and_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        job_id = await submit(client, **TOKENS)
        [assignment] = await miner.assignments()
        deltas = [
            work_pb2.Delta(text="a", tokens=1, token_ids=[1]),
            work_pb2.Delta(text="", tokens=1, token_ids=[2]),
            work_pb2.Delta(text="bc", tokens=2, token_ids=[3, 4]),
        ]
        stream = client.jobs.StreamJob(jobs_pb2.StreamJobRequest(job_id=job_id))
        told: list[int] = []
        last_id = ""
        for sequence, delta in enumerate(deltas):
            update = work_pb2.Update(lease_id=assignment.lease_id, sequence=sequence, delta=delta)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
        text = ""
        while text != "abc":
            event = await read(stream)
            text += event.text
            told += event.token_ids
            last_id = event.event_id
        assert told == [1, 2, 3, 4]
        # Who comes back gets what follows.
        back = client.jobs.StreamJob(
            jobs_pb2.StreamJobRequest(job_id=job_id, after_event_id=last_id)
        )
        assert (await read(back)).type == jobs_pb2.JOB_EVENT_TYPE_STATUS
        completion = work_pb2.Completion(result="abcd", token_ids=[1, 2, 3, 4, 5])
        update = work_pb2.Update(lease_id=assignment.lease_id, sequence=3, completion=completion)
        await miner.send(updates=work_pb2.Updates(updates=[update]))
        for reader in (stream, back):
            more = await read(reader)
            assert (more.text, list(more.token_ids)) == ("d", [5])
            final = await read(reader)
            assert final.job.token_ids == [1, 2, 3, 4, 5]
            assert not final.job.prompt_token_ids
            assert await reader.read() is grpc.aio.EOF
        # And one who begins after the end gets all.
        fresh = client.jobs.StreamJob(jobs_pb2.StreamJobRequest(job_id=job_id))
        told = [token async for event in fresh for token in event.token_ids]
        assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (EMBED, {"outputs": VECTORS[:1]}),
        (EMBED, {"outputs": [VECTORS[0], {"vector": [1.0]}]}),
        (EMBED, {"outputs": [VECTORS[0], {"vector": [1.0, math.nan]}]}),
        (EMBED, {"outputs": [VECTORS[0], {"vector": [1.0, math.inf]}]}),
        (EMBED, {"outputs": [VECTORS[0], {"score": 1.0}]}),
        ({**EMBED, "dimensions": 3}, {"outputs": VECTORS}),
        (EMBED, {"outputs": VECTORS, "result": "text"}),
        (EMBED, {"outputs": VECTORS, "usage": {"completion_tokens": 1}}),
        (EMBED, {"outputs": VECTORS, "usage": {"prompt_tokens": 100_000}}),
        (SCORE, {"outputs": [{"score": math.nan}]}),
        (SCORE, {"outputs": [{}]}),
        (TOKENIZE, {"outputs": [{"token_ids": [-1]}]}),
        (TOKENIZE, {}),
        ({"prompt": "a"}, {"result": "x", "outputs": VECTORS}),
        ({"prompt": "a"}, {"result": "x", "token_ids": [1]}),
        ({"prompt": "a"}, {"result": "x", "prompt_details": {"text": "a"}}),
        ({"prompt": "a"}, {"usage": {"prompt_tokens": 3, "cached_tokens": 4}}),
        (TOKENS, {"token_ids": [1, 2], "usage": {"completion_tokens": 1}}),
        (IMAGE, {"usage": {"prompt_tokens": 100_000}}),
    ],
)
async def test_an_answer_that_its_job_cannot_have_is_tried_again(
    tmp_path: Path, fields: dict[str, Any], said: dict[str, Any]
) -> None:
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        job_id = await submit(client, **fields)
        [assignment] = await miner.assignments()
        await answer(miner, assignment.lease_id, **said)
        await miner.expect("cancellations")
        async for event in client.jobs.StreamJob(jobs_pb2.StreamJobRequest(job_id=job_id)):
            if event.job.attempt == 1 and event.job.status == jobs_pb2.JOB_STATUS_PENDING:
                break
            if event.job.attempt == 2:
                break
        job = await client.job(job_id)
        assert job.attempts[0].error.code == "ANSWER_REFUSED"


async def test_an_image_may_be_far_more_tokens_than_its_address(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        job_id = await submit(client, **IMAGE)
        [assignment] = await miner.assignments()
        assert assignment.job.messages[0].content == ""
        await answer(miner, assignment.lease_id, usage={"prompt_tokens": 40_000})
        assert (await client.job(job_id, wait=10)).status == jobs_pb2.JOB_STATUS_COMPLETED


async def test_what_an_answer_may_be_is_known_after_a_restart(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        job_id = await submit(client, **EMBED)
        [assignment] = await miner.assignments()
    lease_id = assignment.lease_id
    async with coordinator(tmp_path) as client, miner_of(client, held=[lease_id]) as miner:
        await answer(miner, lease_id, outputs=VECTORS)
        job = await client.job(job_id, wait=10)
        assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
        assert len(job.outputs) == 2


async def test_a_miner_that_polls_generates_from_tokens_and_does_nothing_else(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client:
        async with miner_of(client, window=0):
            job_id = await submit(client, **EMBED)
        await client.miners.RegisterMiner(
            miners_pb2.RegisterMinerRequest(miner_id="poller", capabilities=["m"])
        )
        await submit(client, **TOKENS)
        listed = await client.jobs.ListAvailableJobs(
            jobs_pb2.ListAvailableJobsRequest(miner_id="poller")
        )
        assert listed.prompt_token_ids == TOKENS["prompt_token_ids"]
        assert [job.prompt_token_ids for job in listed.jobs] == [listed.prompt_token_ids]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.jobs.ClaimJob(jobs_pb2.ClaimJobRequest(job_id=job_id, miner_id="poller"))
        assert from_rpc_error(caught.value).reason == "MODEL_NOT_OFFERED"


async def test_far_more_outputs_than_one_turn_takes_are_taken(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, miner_of(client) as miner:
        inputs = [{"text": "a"}] * 512
        job_id = await submit(client, task=jobs_pb2.JOB_TASK_EMBED, inputs=inputs)
        [assignment] = await miner.assignments()
        await answer(miner, assignment.lease_id, outputs=[{"vector": [0.5] * 1024}] * 512)
        waited = jobs_pb2.GetJobRequest(job_id=job_id, wait=10)
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{client.coordinator.grpc_port}",
            options=[("grpc.max_receive_message_length", 16 << 20)],
        ) as channel:
            job = await Client(client.coordinator, channel).jobs.GetJob(waited)
        assert [len(output.vector) for output in job.outputs] == [1024] * 512

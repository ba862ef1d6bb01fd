"""A miner is not trusted: what breaks a rule or cannot be true fails its own lease, no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.json_format import ParseDict

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc.v1.work_pb2 import CANCEL_REASON_ANSWER_REFUSED, Completion, Delta, Update
from aitbc_miner.signing import Signer
from tests.integration.server.harness import Client, FakeMiner, coordinator

_MOST = 2**31 - 1


def completion(**counts: int) -> Callable[[str], Update]:
    usage = ParseDict(counts, jobs_pb2.Usage())
    return lambda lease_id: Update(
        lease_id=lease_id,
        completion=Completion(result="done", usage=usage, finish_reason="stop"),
    )


def delta(**fields: object) -> Callable[[str], Update]:
    said = ParseDict(fields, Delta())
    return lambda lease_id: Update(lease_id=lease_id, delta=said)


BAD: dict[str, Callable[[str], Update]] = {
    "tokens of a delta below nothing": delta(text="x", tokens=-1),
    "tokens of a delta beyond any answer": delta(text="x", tokens=_MOST),
    "a call without a place": delta(toolCalls=[{"index": -1, "id": "a", "name": "f"}]),
    "a call far beyond the last": delta(toolCalls=[{"index": _MOST, "id": "a", "name": "f"}]),
    "calls without end": delta(toolCalls=[{"index": 0}] * 1025),
    "a prompt of less than nothing": completion(prompt_tokens=-1, completion_tokens=1),
    "an answer of less than nothing": completion(prompt_tokens=1, completion_tokens=-1),
    "a prompt of all tokens there are": completion(prompt_tokens=_MOST, completion_tokens=1),
    "more tokens than were asked for": completion(prompt_tokens=1, completion_tokens=11),
    "reasoning of less than nothing": completion(completion_tokens=1, reasoning_tokens=-5),
    "a sequence below nothing": lambda lease_id: Update(
        lease_id=lease_id, sequence=-1, delta=Delta(text="x", tokens=1)
    ),
    "more text than ten tokens can be": delta(text="x" * 100_000, tokens=1),
    "a result that ten tokens cannot be": lambda lease_id: Update(
        lease_id=lease_id,
        completion=Completion(result="x" * 100_000, finish_reason="stop"),
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_fails_its_lease_alone(tmp_path: Path, name: str) -> None:
    async with coordinator(tmp_path) as client:
        jobs = [
            await client.submit(params=jobs_pb2.GenerationParams(max_tokens=10), max_attempts=1)
            for _ in range(2)
        ]
        async with client.miner("first", window=2) as miner:
            leases = {a.job.job_id: a.lease_id for a in await miner.assignments(2)}
            bad, good = (leases[job_id] for job_id in jobs)
            updates = [BAD[name](bad), completion(prompt_tokens=3, completion_tokens=10)(good)]
            await miner.send(updates=work_pb2.Updates(updates=updates))
            told = (await miner.expect("cancellations")).cancellations
            assert [(one.lease_id, one.reason) for one in told.cancellations] == [
                (bad, CANCEL_REASON_ANSWER_REFUSED)
            ]
            refused, done = [await client.job(job_id, wait=20) for job_id in jobs]
        assert refused.status == jobs_pb2.JOB_STATUS_FAILED
        assert refused.error.code in ("ANSWER_REFUSED", "RESULT_TOO_LARGE")
        assert "first" in refused.error.message
        assert (done.status, done.usage.completion_tokens) == (jobs_pb2.JOB_STATUS_COMPLETED, 10)


def answer(**fields: Any) -> Callable[[str], Update]:
    said = ParseDict({"result": "done", "finish_reason": "stop", **fields}, Completion())
    said.usage.completion_tokens = 0 if said.outputs else 2
    return lambda lease_id: Update(lease_id=lease_id, completion=said)


CALL: dict[str, Any] = {"id": "call_1", "name": "f", "arguments": "{}"}
LIKELY: dict[str, Any] = {"token": "a", "logprob": -0.5}
TOP: dict[str, Any] = {**LIKELY, "top": [LIKELY]}
TOOLS: dict[str, Any] = {"tools": [{"name": "f"}]}
LOGPROBS: dict[str, Any] = {"params": {"max_tokens": 10, "logprobs": 1}}
IDS: dict[str, Any] = {"params": {"max_tokens": 10, "return_token_ids": True}}
PROMPT: dict[str, Any] = {"params": {"max_tokens": 10, "prompt_logprobs": 1}}
EMBED: dict[str, Any] = {"prompt": "", "task": "JOB_TASK_EMBED", "inputs": [{"text": "a"}]}
VECTOR: dict[str, Any] = {"result": "", "outputs": [{"vector": [1.0]}]}
# What jobs ask, and what they are answered with.
UNASKED: dict[str, tuple[dict[str, Any], Callable[[str], Update]]] = {
    "calls without tools": ({}, answer(tool_calls=[CALL])),
    "parts of them": ({}, delta(tool_calls=[{**CALL, "index": 0}])),
    "calls where none may be made": (
        {**TOOLS, "tool_choice": "none"},
        answer(tool_calls=[CALL]),
    ),
    "two calls where one may be made": (
        {**TOOLS, "parallel_tool_calls": False},
        answer(tool_calls=[CALL, CALL]),
    ),
    "parts of a second one": (
        {**TOOLS, "parallel_tool_calls": False},
        delta(tool_calls=[{**CALL, "index": 0}, {**CALL, "index": 1}]),
    ),
    "a part of a call that was not begun": (TOOLS, delta(tool_calls=[{"arguments": "{}"}])),
    "a call after one that is not there": (TOOLS, delta(tool_calls=[{**CALL, "index": 1}])),
    "a name that a terminal obeys": (TOOLS, answer(tool_calls=[{**CALL, "name": "\x1b[2J"}])),
    "another that it obeys": (TOOLS, answer(tool_calls=[{**CALL, "name": "\x9b2J"}])),
    "a call without a name": (TOOLS, answer(tool_calls=[{**CALL, "name": ""}])),
    "an id that a terminal obeys": (TOOLS, delta(tool_calls=[{**CALL, "id": "a\n", "index": 0}])),
    "an id without end": (TOOLS, answer(tool_calls=[{**CALL, "id": "a" * 257}])),
    "probabilities": ({}, answer(logprobs=[LIKELY])),
    "probabilities in a part": ({}, delta(text="a", tokens=1, logprobs=[LIKELY])),
    "more of the likeliest tokens": (LOGPROBS, answer(logprobs=[{**LIKELY, "top": [LIKELY] * 2}])),
    "likeliest tokens of likeliest tokens": (LOGPROBS, answer(logprobs=[{**LIKELY, "top": [TOP]}])),
    "a probability that is no number": (LOGPROBS, answer(logprobs=[{"logprob": "NaN"}])),
    "one beyond all": (
        LOGPROBS,
        delta(text="a", logprobs=[{**LIKELY, "top": [{"logprob": "-Infinity"}]}]),
    ),
    "more of them than tokens": (LOGPROBS, answer(logprobs=[LIKELY] * 11)),
    "ids in them": (LOGPROBS, answer(logprobs=[{**LIKELY, "token_id": 7}])),
    "ids": ({}, answer(token_ids=[1])),
    "ids in a part": ({}, delta(text="a", tokens=1, token_ids=[1])),
    "more ids than tokens": (IDS, delta(text="a", tokens=1, token_ids=[1, 2])),
    "more ids than it counts": (IDS, answer(token_ids=[1, 2, 3])),
    "the prompt": ({}, answer(prompt_details={"text": "p"})),
    "probabilities of the prompt": (IDS, answer(prompt_details={"logprobs": [LIKELY]})),
    "more of the prompt's": (
        PROMPT,
        answer(prompt_details={"logprobs": [{**LIKELY, "top": [LIKELY] * 2}]}),
    ),
    "a token of the prompt below nothing": (PROMPT, answer(prompt_details={"token_ids": [-1]})),
    "what ended it": ({}, answer(stop_string="END")),
    "text of a vector": (EMBED, delta(text="x", tokens=1)),
    "reasoning of a vector": (EMBED, answer(**VECTOR, reasoning="hm")),
    "calls of a vector": (EMBED, answer(**VECTOR, tool_calls=[CALL])),
    "outputs": ({}, answer(outputs=[{"vector": [1.0]}])),
}


@pytest.mark.parametrize("name", UNASKED)
async def test_what_was_not_asked_for_fails_its_lease_and_is_told_to_nobody(
    tmp_path: Path, name: str
) -> None:
    asks, said = UNASKED[name]
    async with coordinator(tmp_path) as client:
        asked = {"model": "m", "prompt": "p", "max_attempts": 1, **asks}
        request = ParseDict(
            {key: value for key, value in asked.items() if value != ""}, jobs_pb2.SubmitJobRequest()
        )
        job_id = (await client.jobs.SubmitJob(request)).job_id
        tasks = [jobs_pb2.JOB_TASK_GENERATE, jobs_pb2.JOB_TASK_EMBED]
        infos = [work_pb2.ModelInfo(model="m", tasks=tasks)]
        async with client.miner("first", window=1, infos=infos) as miner:
            [assignment] = await miner.assignments()
            await miner.send(updates=work_pb2.Updates(updates=[said(assignment.lease_id)]))
            job = await client.job(job_id, wait=20)
        assert job.error.code == "ANSWER_REFUSED", job
        told = {field.name for field, _ in job.ListFields()}
        assert not told & {"result", "tool_calls", "logprobs", "token_ids", "outputs"}


async def test_all_that_was_asked_for_is_taken_also_after_a_restart(tmp_path: Path) -> None:
    params = jobs_pb2.GenerationParams(
        max_tokens=2, logprobs=1, prompt_logprobs=0, return_token_ids=True, stop=["END"]
    )
    top = {**LIKELY, "top": [{**LIKELY, "token_id": 7, "rank": 1}]}
    whole = answer(
        tool_calls=[CALL],
        logprobs=[top, top],
        token_ids=[1, 2],
        prompt_details={"text": "p", "token_ids": [3], "logprobs": [LIKELY]},
        stop_string="END",
        finish_reason="tool_calls",
    )
    async with coordinator(tmp_path) as client:
        job_id = await client.submit(params=params, tools=[jobs_pb2.Tool(name="f")])
    async with coordinator(tmp_path) as client, client.miner("first", window=1) as miner:
        [assignment] = await miner.assignments()
        await miner.send(updates=work_pb2.Updates(updates=[whole(assignment.lease_id)]))
        job = await client.job(job_id, wait=20)
    assert job.status == jobs_pb2.JOB_STATUS_COMPLETED, job.error
    assert (len(job.logprobs), list(job.token_ids), job.stop_string) == (2, [1, 2], "END")


async def test_probabilities_leave_room_for_themselves(tmp_path: Path) -> None:
    """Of a thousand tokens they are more bytes than their texts may have."""
    params = jobs_pb2.GenerationParams(max_tokens=1000, logprobs=20)
    top = [{"token": "word", "logprob": -0.5}] * 20
    likely = [{"token": "word", "logprob": -0.5, "top": top}] * 1000
    async with coordinator(tmp_path) as client:
        job_id = await client.submit(params=params, max_attempts=1)
        async with client.miner("first", window=1) as miner:
            [assignment] = await miner.assignments()
            whole = answer(logprobs=likely)(assignment.lease_id)
            await miner.send(updates=work_pb2.Updates(updates=[whole]))
            job = await client.job(job_id, wait=20)
    assert len(job.logprobs) == 1000, job.error


async def test_a_signed_answer_is_kept_as_it_was_signed_or_not_at_all(tmp_path: Path) -> None:
    signer = Signer(KEY, "keyed")
    async with coordinator(tmp_path) as client:
        job_id = await client.submit(max_attempts=1)
        signer.agree(2)
        async with client.miner("keyed", window=1, public_key=signer.public_key) as miner:
            [assignment] = await miner.assignments()
            # Without a call, nothing ends by one.
            update = answer(finish_reason="tool_calls")(assignment.lease_id)
            signed = [(job_id, update.lease_id, update.completion)]
            signature, version = signer.sign(signed), signer.version
            updates = work_pb2.Updates(updates=[update], signature=signature)
            updates.statement_version = version
            await miner.send(updates=updates)
            job = await client.job(job_id, wait=20)
    assert (job.error.code, job.finish_reason) == ("ANSWER_REFUSED", "")


async def test_a_finish_reason_that_nobody_knows_is_a_stop(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with client.miner("first") as miner:
            [assignment] = await miner.assignments()
            odd = Completion(result="done", finish_reason="\x1b]0;pwned\x07" + "A" * 500)
            update = Update(lease_id=assignment.lease_id, completion=odd)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            assert (await client.job(job_id, wait=20)).finish_reason == "stop"


async def test_one_miner_s_word_does_not_end_a_job_that_another_serves(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        async with client.miner("first", window=1) as first:
            job_id = await client.submit()
            [assignment] = await first.assignments()
            async with client.miner("second", window=1) as second:
                await first.fail(assignment.lease_id, "BAD_REQUEST", retryable=False)
                [again] = await second.assignments()
                assert again.attempt == 2
                await second.complete(again.lease_id)
                job = await client.job(job_id, wait=20)
        assert job.status == jobs_pb2.JOB_STATUS_COMPLETED


async def test_two_miners_words_end_a_job(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        async with (
            client.miner("first", window=1) as first,
            client.miner("second", window=1) as second,
            client.miner("third", window=0),
        ):
            job_id = await client.submit(max_attempts=10)
            for miner in (first, second):
                [assignment] = await miner.assignments()
                await miner.fail(assignment.lease_id, "BAD_REQUEST", retryable=False)
            job = await client.job(job_id, wait=20)
        assert (job.error.code, job.attempt) == ("BAD_REQUEST", 2)


async def test_a_miner_does_not_say_what_only_the_coordinator_knows(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner("first", window=1) as miner:
        for code, kept in (
            ("POISON", "MINER_FAILED"),
            ("NO_PROGRESS", "MINER_FAILED"),
            ("ENGINE_BUSY", "ENGINE_BUSY"),
        ):
            job_id = await client.submit(max_attempts=1)
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id, retryable=False, code=code)
            await miner.expect("acks")
            assert (await client.job(job_id, wait=20)).error.code == kept


async def test_a_miner_alone_is_believed_at_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with client.miner("first") as miner:
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id, "BAD_REQUEST", retryable=False)
            job = await client.job(job_id, wait=20)
        assert (job.error.code, job.attempt) == ("BAD_REQUEST", 1)


async def test_no_miner_is_sent_what_is_larger_than_it_takes(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        words = [jobs_pb2.ChatMessage(role="user", content="x" * 1_000_000)] * 6
        request = jobs_pb2.SubmitJobRequest(messages=words, model="m", max_attempts=2)
        large = (await client.jobs.SubmitJob(request)).job_id
        small = [await client.submit("x" * 900_000) for _ in range(6)]
        # It says nothing about sizes: 4 MiB, gRPC's default, is what its channel takes.
        async with client.miner("stock", window=10) as miner:
            taken = 0
            while taken < len(small):
                message = await miner.next("assignments")
                assert 0 < message.ByteSize() < 4 * 1024 * 1024
                for assignment in message.assignments.assignments:
                    await miner.complete(assignment.lease_id)
                    taken += 1
            for job_id in small:
                done = await client.job(job_id, wait=20)
                assert done.status == jobs_pb2.JOB_STATUS_COMPLETED
            async with httpx.AsyncClient(base_url=client.url, timeout=30) as api:
                job = (await api.get(f"/v1/jobs/{large}", params={"wait": 20})).json()
        assert (job["status"], job["error"]["code"]) == ("failed", "JOB_TOO_LARGE")


KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


async def say_hello(
    client: Client, key: Ed25519PrivateKey | None, *, proves: bool, previous: object = None
) -> FakeMiner:
    """Opens a stream and says Hello; what comes of it is the caller's to hear."""
    miner = FakeMiner(client.miners.Work())
    hello = work_pb2.Hello(miner_id="keyed", models=["m"])
    if key is not None:
        signer = Signer(key, "keyed", previous=previous)  # type: ignore[arg-type]  # a key or None
        hello.public_key, hello.endorsement = signer.public_key, signer.endorsement
        if proves:
            nonce = dict(await miner.call.initial_metadata())["aitbc-nonce"]
            hello.proof = signer.prove(nonce)
    await miner.send(hello=hello)
    return miner


async def test_who_proved_a_key_once_is_the_only_one_to_come_back(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        owner = await say_hello(client, KEY, proves=True)
        assert (await owner.expect("welcome")).welcome.max_message_bytes == 8 * 1024 * 1024
        for key, proves in [(None, False), (KEY, False), (OTHER, False), (OTHER, True)]:
            thief = await say_hello(client, key, proves=proves)
            refused = grpc.StatusCode.PERMISSION_DENIED, "MINER_KEY_REFUSED"
            assert await thief.end() == refused, (key, proves)
        # Its session was not disturbed.
        job_id = await client.submit()
        await owner.send(capacity=work_pb2.Capacity(max_outstanding_jobs=1))
        assert (await owner.assignments())[0].job.job_id == job_id


async def test_a_proof_is_good_for_one_stream(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        signer = Signer(KEY, "keyed")
        first = FakeMiner(client.miners.Work())
        nonce = dict(await first.call.initial_metadata())["aitbc-nonce"]
        hello = work_pb2.Hello(
            miner_id="keyed",
            models=["m"],
            public_key=signer.public_key,
            proof=signer.prove(nonce),
        )
        second = FakeMiner(client.miners.Work())
        await second.send(hello=hello)
        assert (await second.end())[1] == "MINER_KEY_REFUSED"


async def test_a_new_key_needs_the_old_one_s_signature(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        await (await say_hello(client, KEY, proves=False)).expect("welcome")
        other = await say_hello(client, OTHER, proves=True)
        assert (await other.end())[1] == "MINER_KEY_REFUSED"
        endorsed = await say_hello(client, OTHER, proves=True, previous=KEY)
        await endorsed.expect("welcome")
        old = await say_hello(client, KEY, proves=True)
        assert (await old.end())[1] == "MINER_KEY_REFUSED"


async def test_a_miner_without_proofs_works_as_before(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        for _ in range(2):
            await (await say_hello(client, KEY, proves=False)).expect("welcome")

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2, miners_pb2, receipts_pb2, usage_pb2, work_pb2
from aitbc_server.api.validation import validator
from aitbc_server.domain.errors import InvalidArgument

STATED = jobs_pb2.MinerStatement(miner_id="m")
SUBMIT = jobs_pb2.SubmitJobRequest(model="llama3.2", prompt="hello")
MOST_16384 = "must have at most 16384 items"
WITHOUT_MODEL = jobs_pb2.SubmitJobRequest(prompt="hello")


def check(message: Message) -> None:
    descriptor: Any = message.DESCRIPTOR  # stubbed as one of two classes, which are one at run time
    validator(descriptor)(message)


def submit(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(**{"model": "llama3.2", "prompt": "hello", **fields})


def chat(*messages: dict[str, Any]) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(
        model="llama3.2", messages=[jobs_pb2.ChatMessage(**message) for message in messages]
    )


def signed(signature: str) -> receipts_pb2.Receipt:
    return receipts_pb2.Receipt(signature=receipts_pb2.BatchSignature(signature=signature))


def params(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return submit(params=jobs_pb2.GenerationParams(**fields))


@pytest.mark.parametrize(
    "message",
    [
        submit(),
        submit(priority=-100, timeout_seconds=1, max_attempts=10, request_id="a-1"),
        params(max_tokens=1, temperature=0, top_p=1, top_k=-1, min_p=0, stop=["\n"], seed=-1),
        chat({"role": "user", "content": "hello"}),
        chat({"role": "user", "content": ""}),
        chat({"role": "user", "parts": [{"type": "text"}]}),
        params(min_tokens=0, stop_token_ids=[0, 2**31 - 1], bad_words=["x"]),
        params(allowed_token_ids=range(16384), logit_bias={5: -100, 7: 100}),
        jobs_pb2.SubmitJobRequest(model="m", prompt_token_ids=range(262_144)),
        jobs_pb2.BatchSubmitJobsRequest(jobs=[SUBMIT] * 1000),
        jobs_pb2.CompleteJobRequest(job_id="job-1", miner_id="m", result=""),
        jobs_pb2.CompleteJobRequest(job_id="job-1", miner_id="m", result="a\0b"),
        jobs_pb2.CompleteJobRequest(job_id="job-1", result="", receipt=STATED),
        jobs_pb2.GetJobRequest(job_id="job-1", wait=60),
        jobs_pb2.ListJobsRequest(),
        jobs_pb2.ListJobsRequest(
            page_token="at-job-01k9zq4b5mr6t8vwxyz0123456"  # noqa: S106 - what a list calls a token
        ),
        usage_pb2.GetUsageRequest(since="2024-02-29", until=""),
        miners_pb2.RegisterMinerRequest(miner_id="m", capabilities=["m"], public_key=bytes(32)),
        receipts_pb2.VerifyReceiptRequest(receipt=signed("AQ==")),
        jobs_pb2.ListJobsRequest(status=jobs_pb2.JOB_STATUS_FAILED),
        miners_pb2.RegisterMinerRequest(miner_id="my-miner-001", capabilities=["llama3.2"]),
        work_pb2.MinerMessage(hello=work_pb2.Hello(miner_id="m", models=["a"])),
        work_pb2.Update(delta=work_pb2.Delta(text="a\0b")),
    ],
)
def test_a_valid_message_passes(message: Message) -> None:
    check(message)


def test_what_holds_nothing_but_its_own_kind_is_not_looked_through() -> None:
    # Deeper than Python could follow.
    message = jobs_pb2.JobEvent()
    held = message.logprobs.add()
    for _ in range(2000):
        held = held.top.add()
    check(message)


@pytest.mark.parametrize(
    ("message", "field", "problem"),
    [
        (WITHOUT_MODEL, "model", "is required"),
        (params(max_tokens=0), "params.max_tokens", "must be at least 1"),
        (params(max_tokens=1_000_001), "params.max_tokens", "must be at most 1000000"),
        (params(temperature=2.1), "params.temperature", "must be at most 2"),
        (params(stop_token_ids=[2, -1]), "params.stop_token_ids[1]", "must be at least 0"),
        (params(allowed_token_ids=[1] * 16385), "params.allowed_token_ids", MOST_16384),
        (params(logit_bias={5: 101}), "params.logit_bias[5]", "must be at most 100"),
        (params(logit_bias={5: math.nan}), "params.logit_bias[5]", "must be a finite number"),
        (params(bad_words=[""]), "params.bad_words[0]", "must not be empty"),
        (params(stop=["a", ""]), "params.stop[1]", "must not be empty"),
        (chat({"role": "user"}), "messages[0].content", "is required (or parts)"),
        (
            jobs_pb2.SubmitJobRequest(model="m", prompt_token_ids=[1, -1]),
            "prompt_token_ids[1]",
            "must be at least 0",
        ),
        (
            jobs_pb2.SubmitJobRequest(model="m", inputs=[jobs_pb2.TaskInput(token_ids=[-7])]),
            "inputs[0].token_ids[0]",
            "must be at least 0",
        ),
        (
            submit(prompt_token_ids=[1]),
            "prompt_token_ids",
            "give either prompt or prompt_token_ids, not both",
        ),
        (
            submit(task=77),
            "task",
            "must be one of JOB_TASK_GENERATE, JOB_TASK_EMBED, JOB_TASK_SCORE, JOB_TASK_TOKENIZE, "
            "JOB_TASK_DETOKENIZE",
        ),
        (params(temperature=math.nan), "params.temperature", "must be a finite number"),
        (params(temperature=-math.inf), "params.temperature", "must be a finite number"),
        (params(top_p=0), "params.top_p", "must be greater than 0"),
        (params(stop=["x"] * 17), "params.stop", "must have at most 16 items"),
        (params(stop=["x", ""]), "params.stop[1]", "must not be empty"),
        (params(stop=["x" * 4097]), "params.stop[0]", "must be at most 4096 characters long"),
        (
            submit(metadata={str(number): "" for number in range(17)}),
            "metadata",
            "must have at most 16 items",
        ),
        (
            submit(metadata={"a": "b" * 513}),
            "metadata[a]",
            "must be at most 512 characters long",
        ),
        (
            submit(metadata={"k" * 513: "b"}),
            f"metadata[{'k' * 100}]",
            "must be at most 512 characters long",
        ),
        (
            work_pb2.Hello(miner_id="m", models=["m"], parents={str(n): "" for n in range(257)}),
            "parents",
            "must have at most 256 items",
        ),
        (submit(model="a b"), "model", "must have no spaces"),
        (submit(model="a\0"), "model", "must not contain the NUL character"),
        (submit(prompt="a\0"), "prompt", "must not contain the NUL character"),
        (submit(prompt="é" * 524_289), "prompt", "must be at most 1048576 bytes of UTF-8"),
        (submit(priority=101), "priority", "must be at most 100"),
        (submit(request_id="a b"), "request_id", "must be printable ASCII without spaces"),
        (
            jobs_pb2.SubmitJobRequest(model="m"),
            "prompt",
            "is required (or messages, prompt_token_ids or inputs)",
        ),
        (
            submit(messages=[{"role": "user", "content": "x"}]),
            "messages",
            "give either prompt or messages, not both",
        ),
        (chat({"content": "x"}), "messages[0].role", "is required"),
        (
            chat({"role": "a bot", "content": "x"}),
            "messages[0].role",
            "must be a word such as system, user, assistant or tool",
        ),
        (jobs_pb2.BatchSubmitJobsRequest(), "jobs", "is required"),
        (
            jobs_pb2.BatchSubmitJobsRequest(jobs=[SUBMIT] * 1001),
            "jobs",
            "must have at most 1000 items",
        ),
        (
            jobs_pb2.BatchSubmitJobsRequest(jobs=[SUBMIT, WITHOUT_MODEL]),
            "jobs[1].model",
            "is required",
        ),
        (jobs_pb2.GetJobRequest(job_id="j\0"), "job_id", "must not contain the NUL character"),
        (jobs_pb2.CompleteJobRequest(job_id="j", miner_id="m"), "result", "is required"),
        (
            jobs_pb2.ListJobsRequest(status=9),  # type: ignore[arg-type]  # what the test is about
            "status",
            "must be one of JOB_STATUS_PENDING, JOB_STATUS_RUNNING, JOB_STATUS_COMPLETED, "
            "JOB_STATUS_FAILED, JOB_STATUS_CANCELLED",
        ),
        (miners_pb2.RegisterMinerRequest(miner_id="m"), "capabilities", "is required"),
        (
            work_pb2.MinerMessage(hello=work_pb2.Hello(miner_id="m")),
            "hello.models",
            "is required",
        ),
        (
            jobs_pb2.CompleteJobRequest(job_id="job-1", result=""),
            "miner_id",
            "is required (or receipt.miner_id)",
        ),
        (
            jobs_pb2.ListJobsRequest(page_token="x"),  # noqa: S106 - what a list calls a token
            "page_token",
            "must be a next_page_token of this list",
        ),
        (
            usage_pb2.GetUsageRequest(since="2026-02-30"),
            "since",
            "must be a day such as 2026-01-24",
        ),
        (usage_pb2.GetUsageRequest(until="20260130"), "until", "must be a day such as 2026-01-24"),
        (
            miners_pb2.RegisterMinerRequest(miner_id="m", capabilities=["m"], public_key=b"x"),
            "public_key",
            "must be 32 bytes, or absent",
        ),
        (
            receipts_pb2.VerifyReceiptRequest(receipt=signed("AR==")),
            "receipt.signature.signature",
            "must be Base64",
        ),
    ],
)
def test_a_wrong_field_is_named_with_the_remedy(message: Message, field: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check(message)

    assert (raised.value.field, raised.value.problem) == (field, problem)
    assert str(raised.value) == f"{field}: {problem}"


def test_a_message_may_contain_itself() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="tree.proto", package="t", syntax="proto3")
    tree = file.message_type.add(name="Tree")
    tree.field.add(name="name", number=1, type=9, label=1).options.MergeFromString(
        jobs_pb2.ChatMessage.DESCRIPTOR.fields_by_name["role"].GetOptions().SerializeToString()
    )
    tree.field.add(name="left", number=2, type=11, label=1, type_name=".t.Tree")
    tree.field.add(name="more", number=3, type=11, label=3, type_name=".t.Tree")
    entry = tree.nested_type.add(name="NamedEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1, type_name=".t.Tree")
    tree.field.add(name="named", number=4, type=11, label=3, type_name=".t.Tree.NamedEntry")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    tree_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Tree"))
    leaf = {"name": "user"}

    check(tree_class(name="user", left=leaf, more=[leaf], named={"a": leaf}))
    with pytest.raises(InvalidArgument, match=r"^left\.more\[0\]\.named\[a\]\.name: is required"):
        check(tree_class(**leaf, left={**leaf, "more": [{**leaf, "named": {"a": {}}}]}))


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253_402_300_800, -62_135_596_801])
def test_a_time_that_no_calendar_has_is_refused(seconds: int) -> None:
    request = receipts_pb2.ListReceiptsRequest(since=Timestamp(seconds=seconds))
    with pytest.raises(InvalidArgument, match="since: must be a time from 0001 to 9999"):
        check(request)


@pytest.mark.parametrize("seconds", [0, -62_135_596_800, 253_402_300_799])
def test_a_time_of_the_calendar_is_taken(seconds: int) -> None:
    check(receipts_pb2.ListReceiptsRequest(since=Timestamp(seconds=seconds)))

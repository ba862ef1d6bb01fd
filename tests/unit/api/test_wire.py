"""What a message may hold is known from its bytes, and what is allowed is never refused."""

from __future__ import annotations

import pytest

from aitbc.v1 import jobs_pb2, receipts_pb2, usage_pb2, work_pb2
from aitbc_server.api.wire import Bounds, parse, shape_of
from aitbc_server.domain.errors import InvalidArgument


def test_the_largest_batch_of_plain_jobs_is_taken() -> None:
    message = jobs_pb2.ChatMessage(role="user", content="hello")
    params = jobs_pb2.GenerationParams(max_tokens=16, temperature=0.5, stop=["a", "b"])
    job = jobs_pb2.SubmitJobRequest(model="m", messages=[message] * 20, params=params)
    batch = jobs_pb2.BatchSubmitJobsRequest(jobs=[job] * 1000)
    data = batch.SerializeToString()
    assert parse(jobs_pb2.BatchSubmitJobsRequest, data) == batch
    assert len(data) < shape_of(batch.DESCRIPTOR).most_bytes


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x32\x01\x01" * 6000, "group_by: must have at most 4 items"),
        (b"\x32\xa0\x9c\x01" + b"\x01" * 20_000, "group_by: must have at most 4 items"),
    ],
)
def test_numbers_are_counted_one_by_one_and_packed(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(usage_pb2.GetUsageRequest, data)
    assert str(refused.value) == problem


def test_a_request_that_names_something_is_small() -> None:
    for kind in (jobs_pb2.GetJobRequest, receipts_pb2.GetReceiptRequest, jobs_pb2.ListJobsRequest):
        assert shape_of(kind.DESCRIPTOR).most_bytes < 8192


@pytest.mark.parametrize("cut", [1, 2, 1000, 2999])
def test_a_message_that_was_cut_is_none(cut: int) -> None:
    data = jobs_pb2.SubmitJobRequest(model="m", prompt="x" * 3000).SerializeToString()
    with pytest.raises(InvalidArgument, match="is not a SubmitJobRequest"):
        parse(jobs_pb2.SubmitJobRequest, data[:-cut])


def test_messages_are_counted_alone_where_fields_are_not() -> None:
    tokens = [jobs_pb2.TokenLogprob(logprob=-1, top=[jobs_pb2.TokenLogprob()] * 2)] * 3
    update = work_pb2.Update(lease_id="x", sequence=1, delta=work_pb2.Delta(logprobs=tokens))
    updates = work_pb2.Updates(updates=[update, update])
    message = work_pb2.MinerMessage(updates=updates)
    data = message.SerializeToString()
    # `updates`, two updates with their deltas, and of each three tokens with two others.
    exact = Bounds(most=1 + 2 * (1 + 1 + 3 * 3) + 1, kind="messages", from_bytes=1)
    assert parse(work_pb2.MinerMessage, data, exact) == message
    with pytest.raises(InvalidArgument, match="holds more than 23 messages"):
        parse(work_pb2.MinerMessage, data, exact._replace(most=exact.most - 1))
    # What is smaller is not counted.
    assert parse(work_pb2.MinerMessage, data, Bounds(1, "messages", len(data) + 1)) == message

"""What receivers are told of a job."""

from __future__ import annotations

import orjson
import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.jobs import JobRecord, JobStatus
from aitbc_server.webhooks.payload import MAX_BYTES, job_payload
from tests.factories import START_US


def record(**fields: object) -> JobRecord:
    """Returns a completed job."""
    spec = jobs_pb2.Job(
        job_id="job-1",
        model="m",
        prompt="secret",
        messages=[jobs_pb2.ChatMessage(role="user", content="secret")],
        params=jobs_pb2.GenerationParams(stop=["x" * 256] * 16),
    )
    values: dict[str, object] = {
        "job_id": "job-1",
        "owner": "ait1owner",
        "model": "m",
        "status": JobStatus.COMPLETED,
        "created_us": START_US,
        "attempt": 1,
        "spec": spec.SerializeToString(),
        "finished_us": START_US + 1,
        "result": "done",
    }
    return JobRecord(**(values | fields))  # type: ignore[arg-type]


def test_what_was_asked_is_not_repeated() -> None:
    body = job_payload("job.completed", record())
    assert b"secret" not in body
    assert orjson.loads(body)["data"]["result"] == "done"


@pytest.mark.parametrize("result", ["", "x" * 15_000])
def test_a_result_that_fits_is_there_whole(result: str) -> None:
    assert orjson.loads(job_payload("job.completed", record(result=result)))["data"]["result"] == (
        result
    )


@pytest.mark.parametrize("result", ["x" * 20_000, "\\" * 10_000, "🙂" * 5_000])
def test_no_message_is_larger_than_receivers_take(result: str) -> None:
    body = job_payload("job.completed", record(result=result))
    assert len(body) < MAX_BYTES
    assert "result" not in orjson.loads(body)["data"]


def test_a_job_that_is_large_in_other_ways_is_cut_to_what_matters() -> None:
    spec = jobs_pb2.Job(job_id="job-1", model="m", lease_id="x" * MAX_BYTES)
    body = job_payload("job.completed", record(spec=spec.SerializeToString()))
    assert len(body) < MAX_BYTES
    assert orjson.loads(body)["data"]["job_id"] == "job-1"

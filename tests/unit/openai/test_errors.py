from __future__ import annotations

import orjson
import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.errors import JobFailed, OpenAIError
from aitbc_server.openai.schema import read


@pytest.mark.parametrize("field", ["stream_options", "metadata"])
async def test_what_is_no_object_is_told_in_words_of_json(field: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], field: "x"}
    with pytest.raises(OpenAIError) as caught:
        await read(ChatRequest, orjson.dumps(body))
    assert str(caught.value) == f"Invalid '{field}': Input should be a valid object, got \"x\""


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("BAD_REQUEST", 400, "invalid_value"),
        ("UNSUPPORTED_PART", 400, "unsupported_parameter"),
        ("MODEL_NOT_SERVED", 400, "model_not_served"),
        ("JOB_TOO_LARGE", 413, "job_too_large"),
        ("ENGINE_FAILED", 500, "engine_failed"),
        ("ENGINE_BUSY", 503, "engine_busy"),
        ("DEADLINE_EXCEEDED", 504, "deadline_exceeded"),
    ],
)
def test_why_a_job_failed_is_told_by_a_status(code: str, status: int, told: str) -> None:
    job = jobs_pb2.Job(
        status=jobs_pb2.JOB_STATUS_FAILED, error=jobs_pb2.JobError(code=code, message="why")
    )
    error = JobFailed(job)
    assert (error.status, error.code, str(error)) == (status, told, "why")

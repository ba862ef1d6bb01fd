"""A request that no wait makes room for is wrong, and not early: it would be repeated for ever."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from aitbc.v1 import jobs_pb2
from tests.integration.server.harness import PATIENCE_S, coordinator
from tests.integration.server.test_files import (
    begin,
    ended,
    line,
    register_miner,
    two_owners,
    upload,
)
from tests.integration.server.test_limits import JOB, make_key, refusal, rest
from tests.integration.server.test_openai_tasks import served
from tests.integration.server.test_refused_fields import gateway

HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": HI}
# Each asks for four jobs: where, what, and the parameter that does.
MANY: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": HI, "n": 4}, "n"),
    ("/v1/completions", {"prompt": "hi", "n": 4}, "n"),
    ("/v1/completions", {"prompt": ["hi"] * 2, "n": 2}, "n"),
    ("/v1/completions", {"prompt": ["hi"] * 4}, "prompt"),
    ("/v1/embeddings", {"input": ["hi"] * 200}, "input"),
    ("/v1/rerank", {"query": "hi", "documents": ["a"] * 200}, "documents"),
    ("/v1/score", {"queries": "hi", "items": ["a"] * 200}, "items"),
]
AT_ONCE = [
    ({"limit_jobs_in_flight": 3}, "4 jobs at once are more than the 3 jobs in flight"),
    ({"limit_pending_jobs": 3}, "4 jobs at once are more than the 3 pending jobs"),
    ({"max_jobs": 3}, "must be at most 3"),
]


@pytest.mark.parametrize(("limits", "why"), AT_ONCE)
async def test_a_batch_of_more_jobs_than_there_may_be_is_wrong(
    tmp_path: Path, limits: dict[str, int], why: str
) -> None:
    async with coordinator(tmp_path, **limits) as client, rest(client) as api:
        batch = jobs_pb2.BatchSubmitJobsRequest(
            jobs=[jobs_pb2.SubmitJobRequest(model="m", prompt="hi") for _ in range(4)]
        )
        failure = await refusal(client.jobs.BatchSubmitJobs(batch))
        assert (failure.code, failure.field) == (grpc.StatusCode.INVALID_ARGUMENT, "jobs")
        assert why in failure.message
        answer = await api.post("/v1/jobs:batch", json={"jobs": [JOB] * 4})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_ARGUMENT")
        assert answer.json()["detail"].startswith(f"jobs: {why}")
        assert (await api.post("/v1/jobs:batch", json={"jobs": [JOB] * 3})).status_code == 201


async def test_a_batch_of_more_than_a_days_jobs_is_wrong(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, auth="required") as client,
        rest(client, make_key(tmp_path, jobs_per_day=3)) as api,
    ):
        answer = await api.post("/v1/jobs:batch", json={"jobs": [JOB] * 4})
        assert answer.status_code == 400
        assert "more than the 3 jobs per day" in answer.json()["detail"]
        # Of a day that has room for it, it takes all.
        assert (await api.post("/v1/jobs:batch", json={"jobs": [JOB] * 3})).status_code == 201
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 429


@pytest.mark.parametrize(("path", "body", "param"), MANY)
async def test_what_asks_for_too_many_jobs_is_named(
    tmp_path: Path, path: str, body: dict[str, Any], param: str
) -> None:
    for limits, why in AT_ONCE:
        async with served(tmp_path / next(iter(limits)), **limits) as (_, _, http):
            answer = await http.post(path, json={"model": "m", **body})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "invalid_value"), answer.text
            assert (error["param"], why in error["message"]) == (param, True), answer.text


async def test_openais_client_asks_no_second_time(tmp_path: Path) -> None:
    async with (
        served(tmp_path, limit_jobs_in_flight=3) as (client, _, _),
        openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="x", timeout=PATIENCE_S) as api,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await api.chat.completions.create(**CHAT, n=4)
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.parametrize("is_behind_gateway", [False, True])
async def test_more_answers_than_streams_are_told_one_after_the_other(
    tmp_path: Path, is_behind_gateway: bool
) -> None:
    async with (
        served(tmp_path, limit_calls_in_flight=2) as (client, miner, http),
        gateway(client) as there,
    ):
        url = there if is_behind_gateway else client.url
        body = {**CHAT, "n": 5, "stream": True}
        asking = asyncio.create_task(http.post(f"{url}/v1/chat/completions", json=body))
        for number, assignment in enumerate(await miner.assignments(5)):
            await miner.complete(assignment.lease_id, f"answer {number}")
        answer = await asking
    chunks = [json.loads(one[6:]) for one in answer.text.split("\n\n") if one[6:7] == "{"]
    told = {
        choice["index"]: choice["delta"]["content"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["delta"].get("content")
    }
    assert told == {number: f"answer {number}" for number in range(5)}, answer.text


async def test_a_line_of_a_batch_that_asks_for_too_much_fails_alone(tmp_path: Path) -> None:
    async with two_owners(tmp_path, limit_jobs_in_flight=3) as (client, hers, _, _):
        await register_miner(client, tmp_path)
        asked = json.loads(line())
        asked["body"]["n"] = 4
        batch = await ended(hers, await begin(hers, json.dumps(asked).encode()))
        assert batch.request_counts.failed == 1
        told = json.loads((await hers.files.content(batch.error_file_id)).content)
        error = told["response"]["body"]["error"]
        assert (told["response"]["status_code"], error["param"]) == (400, "n")


async def test_a_job_larger_than_all_that_may_be_stored_is_too_large(tmp_path: Path) -> None:
    async with coordinator(tmp_path, limit_stored_bytes=5000) as client, rest(client) as api:
        answer = await api.post("/v1/jobs", json={"model": "m", "prompt": "x" * 6000})
        assert (answer.status_code, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert "5000 bytes" in answer.json()["detail"]
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 201


async def test_a_file_larger_than_all_of_its_owners_may_be_is_too_large(tmp_path: Path) -> None:
    most = {"file_max_bytes": 2000, "file_max_bytes_per_owner": 1000}
    async with two_owners(tmp_path, **most) as (_, hers, _, _):
        with pytest.raises(openai.APIStatusError) as caught:
            await upload(hers, b"x" * 1500)
        assert caught.value.status_code == 413

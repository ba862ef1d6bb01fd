"""What clients do with jobs over REST, beside the documented walk from submit to result."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import work_pb2
from tests.e2e.jobs import assert_error, final, get, submit, submit_many
from tests.e2e.stream_miner import stream_miner


def test_submit_answers_as_documented(api: httpx.Client) -> None:
    body = {
        "prompt": "Explain quantum computing",
        "model": "llama3.2",
        "params": {"max_tokens": 256, "temperature": 0.7},
    }
    response = api.post("/v1/jobs", json=body)
    assert response.status_code == 201
    submitted = response.json()
    assert set(submitted) == {"job_id", "status", "created_at"}
    assert submitted["job_id"].startswith("job-")
    assert submitted["status"] == "pending"
    assert submitted["created_at"].endswith("Z")

    job = final(api, submitted["job_id"])
    assert job["status"] == "completed"
    assert job["result"] == "Explain quantum computing"
    assert job["miner_id"] == "shared-echo"
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]
    assert job["params"] == body["params"]
    assert job["usage"]["prompt_tokens"] == 3


def test_conversation_is_answered(api: httpx.Client) -> None:
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "a turn"},
    ]
    response = api.post("/v1/jobs", json={"model": "llama3.2", "messages": messages})
    job = final(api, response.json()["job_id"])
    assert job["result"] == "a turn"
    assert job["messages"] == messages


def test_prompt_keeps_every_character(api: httpx.Client) -> None:
    prompt = 'Grüße, 世界 🌍 \u2028 "quoted" \\ </script> \x7f'
    assert final(api, submit(api, prompt=prompt))["result"] == prompt


class TestIdempotencyKey:
    @pytest.fixture
    def headers(self, model: str) -> dict[str, str]:
        return {"Idempotency-Key": f"key-of-{model}"}

    def test_repetition_gives_the_same_job(
        self, api: httpx.Client, model: str, headers: dict[str, str]
    ) -> None:
        body = {"prompt": "once", "model": model}
        first = api.post("/v1/jobs", json=body, headers=headers).json()
        again = api.post("/v1/jobs", json=body, headers=headers).json()
        assert again["job_id"] == first["job_id"]
        assert again["created_at"] == first["created_at"]

    def test_repetitions_at_once_give_one_job(
        self, api: httpx.Client, model: str, headers: dict[str, str]
    ) -> None:
        def send(_: int) -> str:
            body = {"prompt": "once", "model": model}
            return str(api.post("/v1/jobs", json=body, headers=headers).json()["job_id"])

        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(send, range(16)))) == 1
        assert len(listed(api, model=model)) == 1

    def test_another_body_is_refused(
        self, api: httpx.Client, model: str, headers: dict[str, str]
    ) -> None:
        api.post("/v1/jobs", json={"prompt": "once", "model": model}, headers=headers)
        other = {"prompt": "twice", "model": model}
        response = api.post("/v1/jobs", json=other, headers=headers)
        assert_error(response, 409, "IDEMPOTENCY_KEY_REUSED")
        assert len(listed(api, model=model)) == 1

    def test_batch_is_repeated_as_a_whole(
        self, api: httpx.Client, model: str, headers: dict[str, str]
    ) -> None:
        batch = {"jobs": [{"prompt": f"job {number}", "model": model} for number in range(3)]}
        first = api.post("/v1/jobs:batch", json=batch, headers=headers).json()
        again = api.post("/v1/jobs:batch", json=batch, headers=headers).json()
        assert ids(again["jobs"]) == ids(first["jobs"])
        assert len(listed(api, model=model)) == 3


class TestBatch:
    def test_every_job_is_stored_in_order(self, api: httpx.Client, model: str) -> None:
        job_ids = submit_many(api, 1000, model)
        assert len(set(job_ids)) == 1000
        assert get(api, job_ids[0])["prompt"] == "job 0"
        assert get(api, job_ids[999])["prompt"] == "job 999"

    def test_one_wrong_job_stores_none(self, api: httpx.Client, model: str) -> None:
        good = {"prompt": "good", "model": model}
        response = api.post("/v1/jobs:batch", json={"jobs": [good, {"model": model}, good]})
        assert_error(response, 400, "INVALID_ARGUMENT", "jobs[1]", "prompt")
        assert listed(api, model=model) == []


class TestLongPoll:
    def test_wait_ends_with_the_job(self, api: httpx.Client) -> None:
        assert get(api, submit(api), wait=60)["status"] == "completed"

    def test_wait_ends_with_its_time(self, api: httpx.Client, model: str) -> None:
        assert get(api, submit(api, model), wait=0.05)["status"] == "pending"

    def test_wait_for_a_final_job_answers_at_once(self, api: httpx.Client) -> None:
        job_id = submit(api)
        final(api, job_id)
        assert get(api, job_id, wait=60)["status"] == "completed"

    def test_many_wait_for_one_job(self, api: httpx.Client, model: str) -> None:
        job_id = submit(api, model)
        with ThreadPoolExecutor(8) as threads:
            waiting = [threads.submit(get, api, job_id, wait=30) for _ in range(8)]
            api.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
            assert {one.result()["status"] for one in waiting} == {"cancelled"}


class TestList:
    def test_pages_hold_every_job_once_newest_first(self, api: httpx.Client, model: str) -> None:
        job_ids = submit_many(api, 25, model)
        pages = list(pages_of(api, model=model, limit=10))
        assert [len(page) for page in pages] == [10, 10, 5]
        assert [job["job_id"] for page in pages for job in page] == job_ids[::-1]

    def test_page_has_20_unless_asked(self, api: httpx.Client, model: str) -> None:
        submit_many(api, 25, model)
        assert len(listed(api, model=model)) == 20

    def test_jobs_submitted_while_paging_do_not_move_the_pages(
        self, api: httpx.Client, model: str
    ) -> None:
        job_ids = submit_many(api, 6, model)
        first = api.get("/v1/jobs", params={"model": model, "limit": 3}).json()
        submit_many(api, 3, model)
        query = {"model": model, "limit": 3, "page_token": first["next_page_token"]}
        assert ids(api.get("/v1/jobs", params=query).json()["jobs"]) == job_ids[2::-1]

    def test_status_selects(self, api: httpx.Client, model: str) -> None:
        kept, cancelled = submit_many(api, 2, model)
        api.post(f"/v1/jobs/{cancelled}/cancel").raise_for_status()
        assert ids(listed(api, model=model, status="pending")) == [kept]
        assert ids(listed(api, model=model, status="cancelled")) == [cancelled]

    def test_documented_query_works(self, api: httpx.Client) -> None:
        final(api, submit(api))
        jobs = listed(api, status="completed", limit=10)
        assert 1 <= len(jobs) <= 10
        assert {job["status"] for job in jobs} == {"completed"}


class TestCancel:
    def test_pending_job_is_cancelled_at_once(self, api: httpx.Client, model: str) -> None:
        job_id = submit(api, model)
        response = api.post(f"/v1/jobs/{job_id}/cancel")
        assert response.status_code == 200
        assert response.json()["status"] == "cancelled"
        assert response.json()["completed_at"]

    def test_final_job_is_left_as_it_is(self, api: httpx.Client) -> None:
        job_id = submit(api)
        job = final(api, job_id)
        assert_error(api.post(f"/v1/jobs/{job_id}/cancel"), 409, "JOB_ALREADY_FINAL")
        assert get(api, job_id) == job

    async def test_miner_of_a_running_job_is_told_to_stop(
        self, api: httpx.Client, model: str, coordinator: Coordinator
    ) -> None:
        job_id = submit(api, model)
        async with stream_miner(coordinator.grpc, model, window=1, miner_id=model) as miner:
            assignment = await miner.assignment()
            assert get(api, job_id)["status"] == "running"
            response = api.post(f"/v1/jobs/{job_id}/cancel")  # noqa: ASYNC212 - answers at once
            assert response.status_code == 200
            assert response.json()["cancel_requested_at"]

            async with asyncio.timeout(30):
                cancellation = await miner.cancelled.get()
            assert cancellation.lease_id == assignment.lease_id
            assert cancellation.reason == work_pb2.CANCEL_REASON_REQUESTED
            await miner.fail(assignment, work_pb2.Failure(code="CANCELLED", message="stopped"))
            job = await asyncio.to_thread(final, api, job_id)
        assert job["status"] == "cancelled"

    async def test_completion_that_comes_first_wins(
        self, api: httpx.Client, model: str, coordinator: Coordinator
    ) -> None:
        job_id = submit(api, model)
        async with stream_miner(coordinator.grpc, model, window=1, miner_id=model) as miner:
            assignment = await miner.assignment()
            api.post(f"/v1/jobs/{job_id}/cancel")  # noqa: ASYNC212 - answers at once
            await miner.complete([assignment])
            job = await asyncio.to_thread(final, api, job_id)
        assert job["status"] == "completed"


def test_deadline_ends_a_job_that_nobody_takes(api: httpx.Client, model: str) -> None:
    job = final(api, submit(api, model, timeout_seconds=1))
    assert job["status"] == "failed"
    assert job["error"]["code"] == "DEADLINE_EXCEEDED"


async def test_higher_priority_runs_first(
    api: httpx.Client, model: str, coordinator: Coordinator
) -> None:
    ordinary, urgent = submit(api, model), submit(api, model, priority=5)
    async with stream_miner(coordinator.grpc, model, window=1, miner_id=model) as miner:
        first = await miner.assignment()
        await miner.complete([first])
        second = await miner.assignment()
    assert [first.job.job_id, second.job.job_id] == [urgent, ordinary]


def test_health_and_stats_are_public(api: httpx.Client) -> None:
    assert api.get("/health").json()["status"] == "ok"
    assert {"jobs", "miners"} <= set(api.get("/v1/stats").json())


def listed(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """Returns one page of jobs."""
    response = api.get("/v1/jobs", params=query)
    assert response.status_code == 200, response.text
    return list(response.json().get("jobs", []))


def pages_of(api: httpx.Client, **query: Any) -> Any:
    """Yields every page."""
    token: str | None = ""
    while token is not None:
        paging = {"page_token": token} if token else {}
        page = api.get("/v1/jobs", params={**query, **paging}).json()
        yield page["jobs"]
        token = page.get("next_page_token")


def ids(jobs: list[dict[str, Any]]) -> list[str]:
    """Returns the ids of jobs."""
    return [job["job_id"] for job in jobs]

"""Submits jobs over REST and waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import httpx

FINAL = {"completed", "failed", "cancelled"}


def submit(api: httpx.Client, model: str = "llama3.2", **fields: Any) -> str:
    """Returns the id of a new job; its prompt is `hello` unless given."""
    response = api.post("/v1/jobs", json={"prompt": "hello", "model": model, **fields})
    assert response.status_code == 201, response.text
    return str(response.json()["job_id"])


def submit_many(api: httpx.Client, count: int, model: str = "llama3.2") -> list[str]:
    """Returns the ids of new jobs, whose prompts are `job 0`, `job 1` ..."""
    jobs = [{"prompt": f"job {number}", "model": model} for number in range(count)]
    response = api.post("/v1/jobs:batch", json={"jobs": jobs})
    assert response.status_code == 201, response.text
    return [job["job_id"] for job in response.json()["jobs"]]


def final(api: httpx.Client, job_id: str, *, timeout_s: float = 60) -> dict[str, Any]:
    """Returns the job as soon as it is final."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        job = get(api, job_id, wait=min(left, 60))
        if job["status"] in FINAL:
            return job
    raise TimeoutError(f"{job_id} is not final after {timeout_s} s")


def get(api: httpx.Client, job_id: str, **query: Any) -> dict[str, Any]:
    """Returns the job."""
    response = api.get(f"/v1/jobs/{job_id}", params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def assert_all_complete(api: httpx.Client, job_ids: Iterable[str]) -> None:
    """Waits until every job is final, and asserts that each is completed with a result."""
    jobs = [final(api, job_id, timeout_s=120) for job_id in job_ids]
    unfinished = [job for job in jobs if job["status"] != "completed" or not job.get("result")]
    assert not unfinished


def assert_error(response: httpx.Response, status: int, error_code: str, *mentions: str) -> None:
    """Asserts the documented form of an error and that its detail mentions what is wrong."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    body = response.json()
    assert set(body) == {"detail", "error_code"}
    assert body["error_code"] == error_code, body
    for mention in mentions:
        assert mention in body["detail"], body

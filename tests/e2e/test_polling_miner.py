"""A miner that speaks only REST: register, look, claim, complete."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.jobs import assert_error, get, submit


@pytest.fixture
def miner_id(api: httpx.Client, model: str) -> str:
    """A registered miner that polls, for a model of its own."""
    return register(api, f"poller-of-{model}", model)


def register(api: httpx.Client, miner_id: str, model: str) -> str:
    """Returns the id of the miner, registered anew."""
    body = {
        "miner_id": miner_id,
        "capabilities": [model],
        "gpu_info": {"name": "NVIDIA RTX 4090", "memory": "24GB"},
    }
    response = api.post("/v1/miners/register", json=body)
    assert response.status_code in {200, 201}, response.text
    return miner_id


def test_job_goes_from_submit_to_result(api: httpx.Client, model: str, miner_id: str) -> None:
    job_id = submit(api, model, prompt="a question", params={"max_tokens": 5, "temperature": 0})

    available = api.get("/v1/jobs/available", params={"miner_id": miner_id})
    assert available.status_code == 200
    offered = available.json()
    assert offered["job_id"] == job_id
    assert offered["prompt"] == "a question"
    assert offered["model"] == model
    assert offered["params"] == {"max_tokens": 5, "temperature": 0}
    assert [job["job_id"] for job in offered["jobs"]] == [job_id]

    claim = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id})
    assert claim.status_code == 200
    claimed = claim.json()
    assert claimed["job_id"] == job_id
    assert claimed["miner_id"] == miner_id
    assert claimed["status"] == "running"
    assert claimed["lease_id"]
    assert claimed["lease_expires_at"].endswith("Z")

    complete = api.post(
        f"/v1/jobs/{job_id}/complete",
        json={
            "miner_id": miner_id,
            "result": "an answer",
            "completed_at": "2026-01-24T15:00:05Z",
        },
    )
    assert complete.status_code == 200
    job = get(api, job_id)
    assert job["status"] == "completed"
    assert job["result"] == "an answer"
    assert job["miner_id"] == miner_id
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]


def test_nothing_available_is_204(api: httpx.Client, miner_id: str) -> None:
    response = api.get("/v1/jobs/available", params={"miner_id": miner_id})
    assert response.status_code == 204
    assert response.content == b""


def test_second_registration_updates_the_first(
    api: httpx.Client, model: str, miner_id: str
) -> None:
    body = {"miner_id": miner_id, "capabilities": [model, "another"]}
    again = api.post("/v1/miners/register", json=body)
    assert again.status_code == 200
    assert again.json()["miner_id"] == miner_id
    assert api.get(f"/v1/miners/{miner_id}").json()["models"] == [model, "another"]


def test_claimed_job_cannot_be_claimed_again(api: httpx.Client, model: str, miner_id: str) -> None:
    job_id = submit(api, model)
    assert api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).status_code == 200
    other = register(api, f"other-of-{model}", model)
    response = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": other})
    assert_error(response, 409, "JOB_ALREADY_CLAIMED")


def test_completion_by_a_miner_without_the_lease_changes_nothing(
    api: httpx.Client, model: str, miner_id: str
) -> None:
    job_id = submit(api, model)
    api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).raise_for_status()
    other = register(api, f"other-of-{model}", model)
    stolen = {"miner_id": other, "result": "stolen"}
    assert_error(api.post(f"/v1/jobs/{job_id}/complete", json=stolen), 409, "LEASE_LOST")
    assert get(api, job_id)["status"] == "running"


def test_same_completion_again_is_answered_the_same(
    api: httpx.Client, model: str, miner_id: str
) -> None:
    job_id = submit(api, model)
    api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).raise_for_status()
    completion = {"miner_id": miner_id, "result": "an answer"}
    first = api.post(f"/v1/jobs/{job_id}/complete", json=completion)
    again = api.post(f"/v1/jobs/{job_id}/complete", json=completion)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()


def test_claim_for_a_model_that_the_miner_does_not_serve_is_refused(
    api: httpx.Client, miner_id: str
) -> None:
    job_id = submit(api, "a-model-of-nobody")
    response = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id})
    assert_error(response, 400, "MODEL_NOT_OFFERED")


def test_retryable_failure_makes_the_job_pending_and_a_final_one_ends_it(
    api: httpx.Client, model: str, miner_id: str
) -> None:
    job_id = submit(api, model)
    api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).raise_for_status()
    failure = {"miner_id": miner_id, "error": "the GPU is hot", "retryable": True}
    given_back = api.post(f"/v1/jobs/{job_id}/fail", json=failure)
    assert given_back.status_code == 200
    assert given_back.json()["status"] == "pending"

    other = submit(api, model)
    api.post(f"/v1/jobs/{other}/claim", json={"miner_id": miner_id}).raise_for_status()
    ended = api.post(f"/v1/jobs/{other}/fail", json={**failure, "retryable": False})
    assert ended.json()["status"] == "failed"
    assert "the GPU is hot" in ended.json()["error"]["message"]


def test_lease_can_be_extended(api: httpx.Client, model: str, miner_id: str) -> None:
    job_id = submit(api, model)
    claimed = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).json()
    extended = api.post(f"/v1/jobs/{job_id}/extend", json={"miner_id": miner_id})
    assert extended.status_code == 200
    assert extended.json()["lease_id"] == claimed["lease_id"]
    assert extended.json()["lease_expires_at"] >= claimed["lease_expires_at"]

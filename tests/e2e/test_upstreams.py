"""Miners in front of servers that misbehave in all the ways in which servers do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator, Program

from tests.conftest import Launcher
from tests.upstream import BEHAVIOURS, MINERS_FAULTS, upstream

SEED = 20261128
WAIT_S = 60


def start(
    launcher: Launcher, coordinator: Coordinator, miner_id: str, url: str, *models: str, slots: int
) -> Program:
    miner = launcher.miner(
        coordinator,
        "--engine-opt",
        f"base_url={url}",
        miner_id=miner_id,
        engine="openai",
        models=models,
        slots=slots,
    )
    miner.wait_for_line(f"miner {miner_id} ready", timeout_s=30)
    return miner


def submit(api: httpx.Client, jobs: list[dict[str, Any]]) -> list[str]:
    response = api.post("/v1/jobs:batch", json={"jobs": jobs})
    assert response.status_code == 201, response.text
    return [job["job_id"] for job in response.json()["jobs"]]


def ended(api: httpx.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = api.get(f"/v1/jobs/{job_id}", params={"wait": WAIT_S}).json()
    assert job["status"] in {"completed", "failed"}, job
    return job


@pytest.mark.parametrize("status", ["401", "402", "403", "404", "400 API_KEY_INVALID"])
def test_a_miner_that_cannot_work_does_not_eat_the_queue(launcher: Launcher, status: str) -> None:
    coordinator = launcher.coordinator()
    with (
        upstream(status) as broken,
        upstream() as healthy,
        httpx.Client(base_url=coordinator.url, timeout=WAIT_S + 10) as api,
    ):
        miner = start(launcher, coordinator, "broken", broken.url, "m", slots=8)
        start(launcher, coordinator, "healthy", healthy.url, "m", slots=2)
        # One attempt: none of them is the job's.
        jobs = [{"model": "m", "prompt": "plain: x", "max_attempts": 1}] * 40
        ids = submit(api, jobs)
        assert [ended(api, job_id)["status"] for job_id in ids] == ["completed"] * 40
        miner.wait_for_line(f"model.paused.*{status}", timeout_s=10)


@pytest.mark.parametrize("slots", [1, 8])
def test_a_job_that_its_server_always_refuses_does_not_hold_up_the_others(
    launcher: Launcher, slots: int
) -> None:
    coordinator = launcher.coordinator()
    with (
        upstream() as server,
        httpx.Client(base_url=coordinator.url, timeout=WAIT_S + 10) as api,
    ):
        miner = start(launcher, coordinator, "only", server.url, "m", slots=slots)
        [bad] = submit(api, [{"model": "m", "prompt": "404: x"}])
        miner.wait_for_line("model.paused.*404", timeout_s=10)
        ids = submit(api, [{"model": "m", "prompt": "plain: x"}] * 8)
        assert [ended(api, job_id)["status"] for job_id in ids] == ["completed"] * 8
        assert api.get(f"/v1/jobs/{bad}").json()["status"] in {"pending", "running"}


def test_a_model_that_no_miner_can_serve_is_told_and_served_again(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    with (
        upstream("401") as broken,
        httpx.Client(base_url=coordinator.url, timeout=WAIT_S + 10) as api,
    ):
        start(launcher, coordinator, "broken", broken.url, "m", slots=8)
        [job_id] = submit(api, [{"model": "m", "prompt": "plain: x"}])

        def paused() -> bool:
            queue = api.get(f"/v1/jobs/{job_id}/queue").json()
            return bool(queue.get("reason") == "miners_paused")

        assert eventually(paused)
        [pause] = api.get("/v1/miners/broken").json()["pauses"]
        assert (pause["model"], pause["code"]) == ("m", "ENGINE_UNUSABLE")
        assert "api_key" in pause["message"]
        page = api.get("/explorer/miners/broken", headers={"accept": "text/html"}).text
        assert "refuses the miner" in page
        broken.repair()
        assert ended(api, job_id)["result"] == BEHAVIOURS["plain"].text
        assert eventually(lambda: not api.get("/v1/miners/broken").json().get("pauses"))


def eventually(holds: Callable[[], bool]) -> bool:
    """Asks again and again, each time over the network, until something holds."""
    return any(holds() for _ in range(2000))


def test_a_thousand_jobs_of_servers_that_misbehave_end_as_they_should(launcher: Launcher) -> None:
    rng = random.Random(SEED)
    coordinator = launcher.coordinator()
    wild_kinds = [kind for kind in BEHAVIOURS if kind not in MINERS_FAULTS]
    jobs = (
        # Served by the misbehaving miners alone: each ends as its server has it.
        [("wild", rng.choice(wild_kinds)) for _ in range(450)]
        # Served in the same processes, by servers that do as they should.
        + [("good", "plain")] * 350
        # Served by a healthy miner, too: the faults of the others are not the jobs'.
        + [("mixed", "plain")] * 200
    )
    rng.shuffle(jobs)
    with (
        upstream() as wild,
        upstream(rng.choice(MINERS_FAULTS)) as broken,
        httpx.Client(base_url=coordinator.url, timeout=WAIT_S + 10) as api,
    ):
        miners = [
            start(launcher, coordinator, "wild-1", wild.url, "wild", "good", slots=32),
            start(launcher, coordinator, "wild-2", wild.url, "wild", "good", slots=32),
            start(launcher, coordinator, "broken", broken.url, "mixed", slots=32),
            start(launcher, coordinator, "healthy", wild.url, "mixed", slots=8),
        ]
        ids = submit(
            api,
            [
                {"model": model, "prompt": f"{kind}: {number}", "max_attempts": 2}
                for number, (model, kind) in enumerate(jobs)
            ],
        )
        wrong = []
        for job_id, (model, kind) in zip(ids, jobs, strict=True):
            job, expected = ended(api, job_id), BEHAVIOURS[kind]
            said = job.get("result"), job.get("error", {}).get("code", "")
            if said != (expected.text, expected.code):
                wrong.append((model, kind, said, job.get("error")))
            elif job["status"] == "completed":
                assert job["usage"]["prompt_tokens"] >= 0, json.dumps(job)
        assert not wrong, wrong[:20]
        assert [miner.exit_status for miner in miners] == [None] * 4
        assert set(wild.done) == set(wild_kinds)
        for miner in api.get("/v1/miners").json()["miners"]:
            assert miner["status"] == "online"

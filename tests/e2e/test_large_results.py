"""A result that fits into no message fails its job, and the miner goes on with the others."""

from __future__ import annotations

import httpx

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import final, submit


def test_a_result_that_does_not_fit_ends_its_job_alone(launcher: Launcher) -> None:
    env = {**CLEAN_ENV, "AITBC_MAX_MESSAGE_BYTES": str(2 * 1024 * 1024)}
    coordinator = launcher.coordinator(env=env)
    miner = launcher.miner(
        coordinator, "--engine-opt", "tokens=600000", miner_id="talker", models=["long"]
    )
    launcher.miner(coordinator, miner_id="brief")
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        long = submit(api, "long", prompt="word " * 100, max_attempts=10)
        job = final(api, long)
        assert (job["status"], job["error"]["code"]) == ("failed", "RESULT_TOO_LARGE")
        assert job["attempt"] == 1
        # It is there, and works.
        short = submit(api, "long", prompt="word", params={"max_tokens": 7})
        assert final(api, short)["usage"]["completion_tokens"] == 7
    assert miner.exit_status is None
    assert "session.lost" not in miner.tail()


def test_a_text_of_many_tokens_ends_no_miner(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    miner = launcher.miner(coordinator, models=["m"])
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        final(api, submit(api, "m", prompt="word"))
        # An echo's tokens are bytes. More of them are told than many a list may have.
        told = api.post("/tokenize", json={"model": "m", "prompt": "é" * 300_000})
        assert (told.status_code, told.json()["count"]) == (200, 600_000)
        refused = api.post("/tokenize", json={"model": "m", "prompt": "é" * 520_000})
        assert refused.json()["error"]["code"] == "result_too_large", refused.text
        assert final(api, submit(api, "m", prompt="word"))["status"] == "completed"
    assert miner.exit_status is None
    assert "session.lost" not in miner.tail()


def test_large_results_are_told_again_in_messages_that_fit(launcher: Launcher) -> None:
    env = {**CLEAN_ENV, "AITBC_MAX_MESSAGE_BYTES": str(2 * 1024 * 1024)}
    coordinator = launcher.coordinator(env=env)
    launcher.miner(
        coordinator,
        "--engine-opt",
        "tokens=150000",
        "--engine-opt",
        "latency=3",
        models=["long"],
        slots=8,
    )
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        jobs = [submit(api, "long", prompt="word " * 100) for _ in range(8)]
        while api.get("/v1/jobs", params={"status": "running", "limit": 8}).json()["jobs"] == []:
            pass
    coordinator.program.kill()
    again = launcher.again(coordinator, env=env)
    with httpx.Client(base_url=again.url, timeout=70) as api:
        for job_id in jobs:
            job = final(api, job_id)
            assert (job["status"], job["usage"]["completion_tokens"]) == ("completed", 150_000)

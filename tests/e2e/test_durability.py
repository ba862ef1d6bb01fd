"""Nothing that was acknowledged is lost, however a process ends."""

from __future__ import annotations

import httpx
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_all_complete, final, get, submit, submit_many

# Long enough that a batch is at work when the first of it is done; short enough for a test.
SLOW = ("--engine-opt", "latency=0.3")


def client(coordinator: Coordinator) -> httpx.Client:
    """Returns a client of the coordinator's REST API."""
    return httpx.Client(base_url=coordinator.url, timeout=70)


def test_killed_coordinator_keeps_what_it_acknowledged(launcher: Launcher) -> None:
    before = launcher.coordinator()
    with client(before) as api:
        job_id = submit(api, prompt="survive")
        before.program.kill()

    after = launcher.again(before)
    with client(after) as api:
        assert get(api, job_id)["status"] == "pending"
        launcher.miner(after)
        job = final(api, job_id)
    assert job["status"] == "completed"
    assert job["result"] == "survive"


def test_coordinator_killed_at_work_completes_every_job_after_its_restart(
    launcher: Launcher,
) -> None:
    before = launcher.coordinator()
    launcher.miner(before, *SLOW, slots=16)
    with client(before) as api:
        job_ids = submit_many(api, 100)
        final(api, job_ids[0])
        before.program.kill()

    # The miner reconnects by itself and presents what it holds.
    with client(launcher.again(before)) as api:
        assert_all_complete(api, job_ids)


def test_terminated_coordinator_exits_with_0_and_completes_every_job_after_its_restart(
    launcher: Launcher,
) -> None:
    before = launcher.coordinator()
    launcher.miner(before, *SLOW, slots=16)
    with client(before) as api:
        job_ids = submit_many(api, 100)
        final(api, job_ids[0])
        assert before.program.terminate() == 0

    with client(launcher.again(before)) as api:
        assert_all_complete(api, job_ids)


def test_terminated_miner_exits_with_0_and_its_jobs_complete_once(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    miner = launcher.miner(coordinator, *SLOW, miner_id="first", slots=16)
    with client(coordinator) as api:
        job_ids = submit_many(api, 100)
        final(api, job_ids[0])
        assert miner.terminate() == 0
        # What it held is finished, not given back: nothing runs any more.
        running = api.get("/v1/jobs", params={"status": "running"}).json()
        assert running.get("jobs", []) == []

        launcher.miner(coordinator, miner_id="second")
        assert_all_complete(api, job_ids)
        jobs = [get(api, job_id) for job_id in job_ids]
    # What it had begun it finished; a second attempt is of a job that it had not begun.
    assert {job["miner_id"] for job in jobs if job["attempt"] > 1} <= {"second"}
    assert {job["attempt"] for job in jobs if job["miner_id"] == "first"} == {1}


def test_killed_miner_gives_its_jobs_to_another(launcher: Launcher) -> None:
    coordinator = launcher.coordinator(
        env=CLEAN_ENV | {"AITBC_LEASE_SECONDS": "2", "AITBC_HEARTBEAT_SECONDS": "0.5"}
    )
    doomed = launcher.miner(coordinator, *SLOW, miner_id="doomed", slots=16)
    with client(coordinator) as api:
        job_ids = submit_many(api, 50)
        final(api, job_ids[0])
        doomed.kill()
        launcher.miner(coordinator, miner_id="heir")
        assert_all_complete(api, job_ids)

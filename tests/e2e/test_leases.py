"""What becomes of work when processes die, come back, drain or are told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, work_pb2
from aitbc_server.api.errors import from_rpc_error
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import final, get, submit, submit_many
from tests.e2e.keys import create_key
from tests.e2e.stream_miner import stream_miner

# Answers a word each 50 ms: a prompt of many words takes longer than any test.
SLOW = ("--engine-opt", "tokens_per_second=20")
ENDLESS = "word " * 20_000
PATIENCE_S = 60


def client(coordinator: Coordinator, key: str | None = None) -> httpx.Client:
    """Returns a client of the coordinator's REST API."""
    headers = {"X-Api-Key": key} if key else {}
    return httpx.Client(base_url=coordinator.url, timeout=70, headers=headers)


def looks() -> Iterator[float]:
    """Yields the seconds since the first look, until the patience is over."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < PATIENCE_S:
        yield passed
    raise TimeoutError(f"not after {PATIENCE_S} s")


def wait_running(api: httpx.Client, job_id: str) -> None:
    """Returns as soon as the job runs."""
    for _ in looks():
        if get(api, job_id)["status"] == "running":
            return


async def test_job_of_a_killed_miner_runs_elsewhere_within_the_lease_and_a_second(
    launcher: Launcher,
) -> None:
    lease_s = 3.0
    coordinator = launcher.coordinator(
        env=CLEAN_ENV | {"AITBC_LEASE_SECONDS": str(lease_s), "AITBC_HEARTBEAT_SECONDS": "0.5"}
    )
    doomed = launcher.miner(coordinator, *SLOW, miner_id="doomed", slots=1)
    with client(coordinator) as api:
        job_id = submit(api, prompt=ENDLESS)
        await asyncio.to_thread(wait_running, api, job_id)
        async with stream_miner(coordinator.grpc, "llama3.2", window=1, miner_id="heir") as heir:
            killed_at = time.monotonic()
            doomed.kill()
            assignment = await heir.assignment()
            assert time.monotonic() - killed_at <= lease_s + 1
            assert (assignment.job.job_id, assignment.attempt) == (job_id, 2)
            await heir.complete([assignment])
            job = await asyncio.to_thread(final, api, job_id)
    assert [(one["miner_id"], one["outcome"]) for one in job["attempts"]] == [
        ("doomed", "failed"),
        ("heir", "completed"),
    ]
    assert job["attempts"][0]["error"]["code"] == "LEASE_EXPIRED"


async def test_cancel_reaches_the_miner_within_a_second(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    with client(coordinator) as api:
        job_id = submit(api)
        async with stream_miner(coordinator.grpc, "llama3.2", window=1) as miner:
            assignment = await miner.assignment()
            asked_at = time.monotonic()
            asking = asyncio.create_task(
                asyncio.to_thread(api.post, f"/v1/jobs/{job_id}/cancel", json={})
            )
            async with asyncio.timeout(PATIENCE_S):
                told = await miner.cancelled.get()
            assert time.monotonic() - asked_at < 1
            assert told.lease_id == assignment.lease_id
            await miner.fail(assignment, work_pb2.Failure(code="CANCELLED"))
            assert (await asking).json()["status"] == "cancelled"


def test_cancel_stops_the_engine_and_frees_the_slot(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    launcher.miner(coordinator, *SLOW, slots=1)
    with client(coordinator) as api:
        endless = submit(api, prompt=ENDLESS)
        wait_running(api, endless)
        waiting = submit(api, prompt="short")
        began = time.monotonic()
        cancelled = api.post(f"/v1/jobs/{endless}/cancel", json={})
        assert cancelled.json()["status"] == "cancelled"
        assert time.monotonic() - began < 1
        assert final(api, waiting)["status"] == "completed"


def test_flood_of_100_000_jobs_does_not_starve_another_clients_job(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    flooding, single = (create_key(coordinator.data, "client") for _ in range(2))
    with client(coordinator, flooding) as flood:
        for _ in range(100):
            submit_many(flood, 1000)
    with client(coordinator, single) as api:
        job_id = submit(api)
        queue = api.get(f"/v1/jobs/{job_id}/queue").json()
        assert (queue["reason"], queue["position"]) == ("no_miner", 2)
        launcher.miner(coordinator, "--engine-opt", "latency=0.05", slots=4)
        assert final(api, job_id)["status"] == "completed"
        # Its turn came with the first: those that ran meanwhile are a few rounds of the slots.
        assert api.get("/v1/stats").json()["jobs"]["completed"] < 1000


def test_model_that_nobody_serves_blocks_no_other(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    with client(coordinator) as api:
        blocked = submit_many(api, 1000, model="nobody-serves-this")
        launcher.miner(coordinator, slots=4)
        assert final(api, submit(api))["status"] == "completed"
        queue = api.get(f"/v1/jobs/{blocked[0]}/queue").json()
        assert (queue["reason"], queue["able_miner_count"]) == ("no_miner", 0)
        assert queue["unable_miners"] == [{"miner_id": "echo", "state": "model_not_served"}]


async def test_ten_thousand_pending_jobs_are_dispatched_soon_after_a_restart(
    launcher: Launcher,
) -> None:
    before = launcher.coordinator()
    with client(before) as api:
        for _ in range(10):
            submit_many(api, 1000)
    before.program.kill()
    after = await asyncio.to_thread(launcher.again, before)
    async with stream_miner(after.grpc, "llama3.2", window=1) as miner:
        await miner.assignment()
        # On a machine that does nothing else, that many seconds pass; here others may be at work.
        assert cpu_seconds(after.program.pid) < 3


def cpu_seconds(pid: int) -> float:
    """Returns the time that a process has had on the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


ONE = '{"prompt": "once", "model": "llama3.2"}'


@pytest.mark.parametrize(
    ("path", "text", "count"),
    [("/v1/jobs", ONE, 1), ("/v1/jobs:batch", f'{{"jobs": [{ONE}, {ONE}, {ONE}]}}', 3)],
)
def test_submit_that_crashed_between_commit_and_answer_is_not_repeated(
    launcher: Launcher, path: str, text: str, count: int
) -> None:
    coordinator = launcher.coordinator()
    body = text.encode()
    headers = {"Idempotency-Key": "the-key", "Content-Type": "application/json"}
    sent = {"Host": coordinator.http, **headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    request = f"POST {path} HTTP/1.1\r\n{head}\r\n"
    host, port = coordinator.http.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(request.encode() + body)
        # No answer is read: it is lost with the process.
        stored = stored_jobs(coordinator.data, count)
        coordinator.program.kill()
    with client(launcher.again(coordinator)) as api:
        again = api.post(path, content=body, headers=headers)
        assert again.status_code == 201
        made = again.json().get("jobs", [again.json()])
        assert [job["job_id"] for job in made] == stored
        assert len(api.get("/v1/jobs").json()["jobs"]) == count


def stored_jobs(data: Path, count: int) -> list[str]:
    """Returns the ids of the jobs in the database, as soon as there are so many."""
    path = data / "coordinator.db"
    for _ in looks():
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT job_id FROM jobs ORDER BY job_id").fetchall()
        database.close()
        if len(rows) >= count:
            return [job_id for (job_id,) in rows]
    raise AssertionError


def test_restarted_coordinator_neither_fails_nor_repeats_what_a_miner_runs(
    launcher: Launcher,
) -> None:
    before = launcher.coordinator()
    launcher.miner(before, "--engine-opt", "latency=4", slots=4)
    with client(before) as api:
        job_ids = submit_many(api, 4)
        for job_id in job_ids:
            wait_running(api, job_id)
        before.program.kill()
    with client(launcher.again(before)) as api:
        jobs = [final(api, job_id) for job_id in job_ids]
    assert [(job["status"], job["attempt"], len(job["attempts"])) for job in jobs] == [
        ("completed", 1, 1)
    ] * 4


def test_second_process_of_a_miner_ends_the_first_and_takes_its_work(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    first = launcher.miner(coordinator, *SLOW, miner_id="twin", slots=1)
    with client(coordinator) as api:
        job_id = submit(api, prompt="word " * 60)
        wait_running(api, job_id)
        launcher.miner(coordinator, *SLOW, miner_id="twin", slots=1)
        assert first.wait(timeout_s=PATIENCE_S) != 0
        job = final(api, job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)
        assert job["attempts"][0]["error"]["code"] == "MINER_RESTARTED"


def test_drained_miner_finishes_and_waits_until_it_is_resumed(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    miner = launcher.miner(coordinator, *SLOW, miner_id="old", slots=1)
    admin = create_key(coordinator.data, "admin")
    with client(coordinator) as api, client(coordinator, admin) as operator:
        running = submit(api, prompt="word " * 40)
        wait_running(api, running)
        drained = operator.post("/v1/miners/old/drain")
        assert (drained.status_code, drained.json()["status"]) == (200, "draining")
        waiting = submit(api)
        assert final(api, running)["status"] == "completed"
        assert api.get("/v1/miners/old").json()["running_jobs"] == 0

        assert miner.terminate() == 0
        launcher.miner(coordinator, *SLOW, miner_id="old", slots=1)
        for _ in looks():
            if api.get("/v1/miners/old").json()["status"] == "draining":
                break
        queue = api.get(f"/v1/jobs/{waiting}/queue").json()
        assert queue["unable_miners"] == [{"miner_id": "old", "state": "draining"}]

        assert operator.post("/v1/miners/old/resume").json()["status"] == "online"
        assert final(api, waiting)["status"] == "completed"


def test_draining_coordinator_refuses_new_work_and_hands_over_what_runs(
    launcher: Launcher,
) -> None:
    before = launcher.coordinator(env=CLEAN_ENV | {"AITBC_DRAIN_SECONDS": "2"})
    launcher.miner(before, "--engine-opt", "latency=5", slots=1)
    with client(before) as api:
        running = submit(api)
        wait_running(api, running)
        before.program.send(signal.SIGTERM)
        for _ in looks():
            refused = api.post("/v1/jobs", json={"prompt": "late", "model": "llama3.2"})
            if refused.status_code != 201:
                break
        assert (refused.status_code, refused.json()["error_code"]) == (503, "DRAINING")
        assert int(refused.headers["Retry-After"]) > 0
        asyncio.run(assert_refused(before.grpc))
        assert get(api, running)["status"] == "running"
        assert before.program.wait(timeout_s=PATIENCE_S) == 0
    with client(launcher.again(before)) as api:
        job = final(api, running)
    assert (job["status"], job["attempt"]) == ("completed", 1)


async def assert_refused(address: str) -> None:
    """Asserts that a submit over gRPC is refused, and says when to come back."""
    async with grpc.aio.insecure_channel(address) as channel:
        request = jobs_pb2.SubmitJobRequest(prompt="late", model="llama3.2")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs_pb2_grpc.JobServiceStub(channel).SubmitJob(request)
    failure = from_rpc_error(refused.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert failure.retry_after_s

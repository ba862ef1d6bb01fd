"""What the jobs of a key take is counted, and has a limit that deleting them makes room in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.jobs import JOB_BYTES
from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.job_file import open_jobs
from aitbc_server.store.key_file import open_keys
from tests.integration.server.harness import coordinator
from tests.integration.server.test_limits import assert_limited, make_key, refusal, rest

KIB = 1024
# The job of 1,000 characters, with what it takes beside them.
JOB = {"prompt": "x" * 1000, "model": "m"}
POLICY = f'"stored-bytes";q={100 * KIB}'


def counted(data: Path) -> dict[str, int]:
    """Returns what is counted of each owner."""
    return dict(connect(data / FILE_NAME).execute("SELECT owner, bytes FROM stored"))


def weighed(data: Path) -> dict[str, int]:
    """Returns what the texts of each owner's jobs weigh."""
    rows = connect(data / FILE_NAME).execute(
        "SELECT owner, sum(?1 + octet_length(spec) + coalesce(octet_length(result), 0)"
        " + coalesce(octet_length(details), 0))"
        " FROM jobs JOIN specs USING (job_id) LEFT JOIN results USING (job_id) GROUP BY owner",
        (JOB_BYTES,),
    )
    return dict(rows)


async def test_a_key_may_store_so_much_and_is_told_what_to_do(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_stored_bytes=100 * KIB) as client:
        key, other = make_key(tmp_path), make_key(tmp_path)
        async with rest(client, key) as api:
            # At once: what is being stored counts as well.
            answers = await asyncio.gather(*(api.post("/v1/jobs", json=JOB) for _ in range(80)))
            taken = [answer for answer in answers if answer.status_code == 201]
            assert len(taken) == 49
            refused = next(answer for answer in answers if answer.status_code != 201)
            assert_limited(refused, "TOO_MUCH_STORED", POLICY)
            assert "jobs may take 102,400 bytes" in refused.json()["detail"]
            batch = await api.post("/v1/jobs:batch", json={"jobs": [JOB] * 10})
            assert_limited(batch, "TOO_MUCH_STORED", POLICY)
            chat = {"model": "m", "messages": [{"role": "user", "content": JOB["prompt"]}]}
            assert (await api.post("/v1/chat/completions", json=chat)).status_code in (404, 429)
        request = jobs_pb2.SubmitJobRequest(prompt=JOB["prompt"], model="m")
        failure = await refusal(client.jobs.SubmitJob(request, metadata=(("x-api-key", key),)))
        assert (failure.code, failure.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MUCH_STORED",
        )
        async with rest(client, other) as api:
            assert (await api.post("/v1/jobs", json=JOB)).status_code == 201
        assert counted(tmp_path) == weighed(tmp_path)


async def test_what_is_deleted_makes_room(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, auth="required", limit_stored_bytes=5 * KIB) as client,
        rest(client, make_key(tmp_path)) as api,
    ):
        job_ids = await fill(api)
        job_id = job_ids[0]
        assert (await api.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
        # Its end does not: it is stored still.
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 429
        assert (await api.delete(f"/v1/jobs/{job_id}")).status_code == 204
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 201
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 429
        assert counted(tmp_path) == weighed(tmp_path)


async def fill(api: httpx.AsyncClient) -> list[str]:
    """Submits jobs for as long as they are taken; returns their ids."""
    job_ids: list[str] = []
    while (answer := await api.post("/v1/jobs", json=JOB)).status_code == 201:
        job_ids.append(answer.json()["job_id"])
    assert answer.json()["error_code"] == "TOO_MUCH_STORED"
    assert job_ids
    return job_ids


async def test_what_is_answered_counts(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, limit_stored_bytes=20 * KIB) as client,
        rest(client) as api,
        client.miner() as miner,
    ):
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 201
        (lease,) = await miner.assignments()
        await miner.complete(lease.lease_id, "y" * 20 * KIB)
        await miner.expect("acks")
        answer = await api.post("/v1/jobs", json=JOB)
        assert_limited(answer, "TOO_MUCH_STORED", f'"stored-bytes";q={20 * KIB}')
        assert counted(tmp_path) == weighed(tmp_path)
        (size,) = counted(tmp_path).values()
        assert size > 21 * KIB


async def test_a_key_has_a_limit_of_its_own_that_outlives_a_restart(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_stored_bytes=0) as client:
        key = make_key(tmp_path, stored_bytes=5 * KIB)
        async with rest(client, key) as api:
            await fill(api)
    async with (
        coordinator(tmp_path, auth="required", limit_stored_bytes=0) as client,
        rest(client, key) as api,
    ):
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 429
        with open_keys(tmp_path) as keys:
            assert keys.limit(key.split("_")[1], {"stored_bytes": 10 * KIB})
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 201


async def test_what_a_command_deletes_beside_the_server_makes_room(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_stored_bytes=5 * KIB) as client:
        key = make_key(tmp_path)
        async with rest(client, key) as api:
            for job_id in await fill(api):
                assert (await api.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
            with open_keys(tmp_path) as keys, open_jobs(tmp_path) as jobs:
                assert sum(jobs.forget(keys.all()[0].owner))
            assert (await api.post("/v1/jobs", json=JOB)).status_code == 201
            assert counted(tmp_path) == weighed(tmp_path)


async def test_jobs_that_are_not_kept_make_room_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc_server.retention._UNKEPT_S", 0.0)
    monkeypatch.setattr("aitbc_server.retention._UNKEPT_SWEEP_S", 0.05)
    async with (
        coordinator(tmp_path, limit_stored_bytes=2 * KIB + 512) as client,
        rest(client) as api,
    ):
        submitted = await api.post("/v1/jobs", json=JOB | {"store": False})
        assert submitted.status_code == 201
        job_id = submitted.json()["job_id"]
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 429
        assert (await api.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
        async with asyncio.timeout(20):
            while (await api.post("/v1/jobs", json=JOB)).status_code == 429:
                pass


async def test_what_is_stored_already_is_found_by_its_name(tmp_path: Path) -> None:
    async with coordinator(tmp_path, limit_stored_bytes=3 * KIB) as client, rest(client) as api:
        named = {"idempotency-key": "mine"}
        first = await api.post("/v1/jobs", json=JOB, headers=named)
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 429
        again = await api.post("/v1/jobs", json=JOB, headers=named)
        assert (again.status_code, again.json()) == (first.status_code, first.json())


async def test_a_batch_of_a_full_key_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: its lines wait, as they do for other limits."""
    monkeypatch.setattr("aitbc_server.store.stored._RETRY_S", 0.1)
    async with (
        coordinator(tmp_path, limit_stored_bytes=5 * KIB) as client,
        rest(client) as api,
        client.miner(window=0),
    ):
        job_ids = await fill(api)
        line = (
            '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body":'
            ' {"model": "m", "messages": [{"role": "user", "content": "' + "x" * 1000 + '"}]}}'
        )
        uploaded = await api.post(
            "/v1/files",
            files={"file": ("in.jsonl", line)},
            data={"purpose": "batch"},
        )
        made = await api.post(
            "/v1/batches",
            json={
                "input_file_id": uploaded.json()["id"],
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            },
        )
        batch_id = made.json()["id"]
        for job_id in job_ids:
            await api.post(f"/v1/jobs/{job_id}/cancel")
            await api.delete(f"/v1/jobs/{job_id}")
        async with asyncio.timeout(30):
            while not (await api.get("/v1/jobs")).json()["jobs"]:
                pass
        batch = (await api.get(f"/v1/batches/{batch_id}")).json()
        assert (batch["status"], batch["request_counts"]["failed"]) == ("in_progress", 0)

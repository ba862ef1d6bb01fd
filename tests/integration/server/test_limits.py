"""Limits on calls and jobs, as callers of both ports meet them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2, network_pb2, work_pb2
from aitbc_server.api.errors import Failure, from_rpc_error
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import new_key
from aitbc_server.rest.app import RestApp
from aitbc_server.rest.reflection import ReflectedBackend
from aitbc_server.store.key_file import open_keys
from tests.factories import key_record
from tests.integration.server.harness import Client, coordinator
from tests.unit.rest.serving import client_of

JOB = {"prompt": "hello", "model": "m"}


def make_key(data: Path, role: Role = Role.CLIENT, **limits: float) -> str:
    """Stores a new key; returns its text."""
    text = new_key(secrets.randbelow)
    with open_keys(data) as keys:
        keys.create(key_record(text, role=role, limits=limits))
    return text


def rest(client: Client, key: str | None = None) -> httpx.AsyncClient:
    headers = {} if key is None else {"X-Api-Key": key}
    url = f"http://127.0.0.1:{client.coordinator.http_port}"
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60)


async def refusal(call: Any) -> Failure:
    """Returns how a gRPC call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return from_rpc_error(raised.value)


def assert_limited(response: httpx.Response, reason: str, policy: str) -> None:
    assert (response.status_code, response.json()["error_code"]) == (429, reason)
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["ratelimit-policy"] == policy
    name = policy.partition(";")[0]
    assert response.headers["ratelimit"].startswith(f"{name};r=0;t=")


async def test_a_loop_meets_the_default_where_a_key_is_required(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        key = make_key(tmp_path)
        metadata = (("x-api-key", key),)
        slots = asyncio.Semaphore(64)

        async def call() -> None:
            async with slots:
                await client.jobs.ListJobs(jobs_pb2.ListJobsRequest(limit=1), metadata=metadata)

        answers = await asyncio.gather(*(call() for _ in range(3000)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert {from_rpc_error(error).reason for error in refused} == {"RATE_LIMITED"}
        assert len(answers) - len(refused) >= 250
        # Another caller is not held up.
        other = (("x-api-key", make_key(tmp_path)),)
        await client.jobs.ListJobs(jobs_pb2.ListJobsRequest(), metadata=other)


async def test_one_developer_on_a_laptop_meets_no_limit(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        for _ in range(2000):
            await client.network.GetStats(network_pb2.GetStatsRequest())


async def test_rest_says_when_to_come_back(tmp_path: Path) -> None:
    settings = {"limit_requests_per_second": 0.1, "limit_burst": 2}
    async with coordinator(tmp_path, **settings) as client, rest(client) as api:
        answers = [await api.get("/v1/stats") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert_limited(answers[2], "RATE_LIMITED", '"requests";q=2;w=20')
        assert 5 <= int(answers[2].headers["retry-after"]) <= 10
        assert (await api.get("/health")).status_code == 200


async def test_grpc_says_when_to_come_back(tmp_path: Path) -> None:
    async with coordinator(tmp_path, limit_requests_per_second=0.1, limit_burst=2) as client:
        await client.submit()
        await client.submit()
        failure = await refusal(client.submit())
        assert (failure.code, failure.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RATE_LIMITED",
        )
        assert failure.retry_after_s == pytest.approx(10, abs=1)
        assert failure.quota == ("requests", 2, 20)


async def test_the_hello_of_a_miner_is_a_call(tmp_path: Path) -> None:
    async with coordinator(tmp_path, limit_requests_per_second=0.1, limit_burst=1) as client:
        async with client.miner():
            pass
        call = client.miners.Work()
        await call.write(work_pb2.MinerMessage(hello=work_pb2.Hello(miner_id="m", models=["m"])))
        failure = await refusal(call.read())
        assert failure.reason == "RATE_LIMITED"
        assert failure.retry_after_s == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("limits", "policy"),
    [
        ({"limit_jobs_in_flight": 5}, '"jobs-in-flight";q=5'),
        ({"limit_pending_jobs": 3}, '"pending-jobs";q=3'),
    ],
)
async def test_unfinished_jobs_are_counted(
    tmp_path: Path, limits: Mapping[str, int], policy: str
) -> None:
    async with coordinator(tmp_path, **limits) as client, client.miner(window=2) as miner:
        job_ids = [await client.submit() for _ in range(2)]
        leases = await miner.assignments(2)
        async with rest(client) as api:
            # At once: jobs that are being stored count as well.
            answers = await asyncio.gather(*(api.post("/v1/jobs", json=JOB) for _ in range(20)))
            assert sorted({answer.status_code for answer in answers}) == [201, 429]
            assert len([answer for answer in answers if answer.status_code == 201]) == 3
            for answer in answers:
                if answer.status_code == 429:
                    assert_limited(answer, "TOO_MANY_JOBS", policy)
            batch = await api.post("/v1/jobs:batch", json={"jobs": [JOB]})
            assert_limited(batch, "TOO_MANY_JOBS", policy)
            # One that ends makes room for one.
            await miner.complete(leases[0].lease_id)
            assert (await client.job(job_ids[0], wait=20)).status == jobs_pb2.JOB_STATUS_COMPLETED
            await miner.expect("acks")
            await miner.assignments(1)
            assert (await api.post("/v1/jobs", json=JOB)).status_code == 201
            assert (await api.post("/v1/jobs", json=JOB)).status_code == 429


async def test_jobs_of_one_key_leave_room_for_those_of_another(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_pending_jobs=1) as client:
        for key in (make_key(tmp_path), make_key(tmp_path)):
            async with rest(client, key) as api:
                assert (await api.post("/v1/jobs", json=JOB)).status_code == 201
                assert (await api.post("/v1/jobs", json=JOB)).status_code == 429


async def test_a_key_has_limits_of_its_own(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_pending_jobs=1) as client:
        key = make_key(tmp_path, pending_jobs=2, prompt_bytes=10, body_bytes=100)
        async with rest(client, key) as api:
            for status in (201, 201, 429):
                assert (await api.post("/v1/jobs", json=JOB)).status_code == status
            large = await api.post("/v1/jobs", json=JOB | {"prompt": "é" * 6})
            assert large.status_code == 429, "its jobs are counted first"
            with open_keys(tmp_path) as keys:
                assert keys.limit(key.split("_")[1], {"pending_jobs": None, "prompt_bytes": 5})
                assert keys.all()[0].limits == {"prompt_bytes": 5, "body_bytes": 100}
            assert (await api.post("/v1/jobs", json=JOB)).status_code == 429


async def test_a_prompt_and_a_body_have_their_size(tmp_path: Path) -> None:
    async with coordinator(tmp_path, limit_prompt_bytes=10, limit_body_bytes=150) as client:
        async with rest(client) as api:
            fits = await api.post("/v1/jobs", json=JOB | {"prompt": "é" * 5})
            assert fits.status_code == 201
            for field, value in (
                ("prompt", "é" * 6),
                ("messages", [{"role": "user", "content": "123456"}] * 2),
            ):
                large = await api.post("/v1/jobs", json={"model": "m", field: value})
                assert large.status_code == 400
                assert (
                    large.json()["detail"] == f"{field}: must be at most 10 bytes for this caller"
                )
            body = await api.post("/v1/jobs", json=JOB | {"prompt": "x" * 150})
            assert (body.status_code, body.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
        failure = await refusal(client.submit("x" * 150))
        assert (failure.code, failure.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "PAYLOAD_TOO_LARGE",
        )
        assert failure.retry_after_s is None


async def test_a_gateway_tells_its_callers_apart_and_passes_their_limits_on(
    tmp_path: Path,
) -> None:
    settings = {"limit_requests_per_second": 0.1, "limit_burst": 2}
    async with coordinator(tmp_path, limit_trusted_proxies="127.0.0.1", **settings) as client:
        backend = ReflectedBackend(f"127.0.0.1:{client.coordinator.grpc_port}")
        async with client_of(RestApp(backend)) as api:
            for address in ("203.0.113.1", "203.0.113.2"):
                answers = [
                    await api.get("/v1/stats", headers={"X-Forwarded-For": address})
                    for _ in range(3)
                ]
                assert [answer.status_code for answer in answers] == [200, 200, 429]
                assert_limited(answers[2], "RATE_LIMITED", '"requests";q=2;w=20')
        await backend.close()


async def test_a_miner_id_that_two_keys_register_at_once_belongs_to_one(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        keys = [make_key(tmp_path, Role.MINER) for _ in range(8)]

        async def register(key: str) -> str:
            request = miners_pb2.RegisterMinerRequest(
                miner_id="contested", capabilities=[key[6:18]]
            )
            try:
                await client.miners.RegisterMiner(request, metadata=(("x-api-key", key),))
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason
            return key

        outcomes = await asyncio.gather(*map(register, keys))
        [owner] = [outcome for outcome in outcomes if outcome in keys]
        assert outcomes.count("MINER_NOT_OWNED") == 7
        miner = await client.miners.GetMiner(
            miners_pb2.GetMinerRequest(miner_id="contested"), metadata=(("x-api-key", owner),)
        )
        assert list(miner.models) == [owner[6:18]]
        assert await register(owner) == owner

"""A miner's key names its models: at each border where a miner says or asks for one."""

from __future__ import annotations

import secrets
from pathlib import Path

import grpc
import httpx

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import key_id_of, new_key
from aitbc_server.store.key_file import open_keys
from tests.factories import key_record
from tests.integration.server.harness import Client, FakeMiner, coordinator
from tests.integration.server.test_limits import make_key, rest

REFUSED = (grpc.StatusCode.PERMISSION_DENIED, "MODEL_NOT_ALLOWED")


def miner_key(data: Path, *models: str) -> str:
    """Stores a new key of a miner; returns its text."""
    text = new_key(secrets.randbelow)
    with open_keys(data) as keys:
        keys.create(key_record(text, role=Role.MINER, models=models))
    return text


def narrow(data: Path, key: str, *models: str) -> None:
    with open_keys(data) as keys:
        assert keys.set_models(key_id_of(key), models)


async def register(api: httpx.AsyncClient, *models: str) -> httpx.Response:
    registration = {"miner_id": "polling", "capabilities": models}
    return await api.post("/v1/miners/register", json=registration)


def assert_refused(response: httpx.Response, model: str) -> None:
    body = response.json()
    assert (response.status_code, body["error_code"]) == (403, "MODEL_NOT_ALLOWED")
    assert repr(model) in body["detail"]


async def hello(
    client: Client, key: str, *models: str, miner_id: str = "streaming", **parents: str
) -> FakeMiner:
    miner = FakeMiner(client.miners.Work(metadata=(("x-api-key", key),)))
    said = work_pb2.Hello(
        miner_id=miner_id,
        models=models,
        parents=parents,
        capacity=work_pb2.Capacity(max_outstanding_jobs=1),
    )
    await miner.send(hello=said)
    return miner


async def submit(client: Client, key: str, model: str) -> str:
    request = jobs_pb2.SubmitJobRequest(prompt="secret", model=model)
    return (await client.jobs.SubmitJob(request, metadata=(("x-api-key", key),))).job_id


async def test_a_miner_registers_and_says_hello_for_these_models_alone(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        key = miner_key(tmp_path, "m", "code*")
        async with rest(client, key) as api:
            assert (await register(api, "m", "codellama")).status_code == 201
            assert_refused(await register(api, "m", "other"), "other")
        assert await (await hello(client, key, "m", "other")).end() == REFUSED
        # An adapter's model is one that is served, too.
        assert await (await hello(client, key, "code-a", "base", **{"code-a": "base"})).end() == (
            REFUSED
        )
        taken = await hello(client, key, "m", "code-a", **{"code-a": "m"})
        await taken.expect("welcome")
        taken.call.cancel()
        # A key that names none allows all, as an administrator's does.
        for role in (Role.MINER, Role.ADMIN):
            async with rest(client, make_key(tmp_path, role)) as api:
                registration = {"miner_id": f"of-{role}", "capabilities": ["other"]}
                answer = await api.post("/v1/miners/register", json=registration)
                assert answer.status_code == 201


async def test_a_miner_that_registered_before_is_shown_and_given_no_more(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        key, owner = miner_key(tmp_path), make_key(tmp_path)
        job_id, other = [await submit(client, owner, model) for model in ("m", "other")]
        async with rest(client, key) as api:
            assert (await register(api, "m", "other")).status_code == 201
            narrow(tmp_path, key, "m")
            shown = (await api.get("/v1/jobs/available?miner_id=polling")).json()
            assert [job["job_id"] for job in shown["jobs"]] == [job_id]
            claim = {"miner_id": "polling"}
            assert_refused(await api.post(f"/v1/jobs/{other}/claim", json=claim), "other")
            assert (await api.post(f"/v1/jobs/{job_id}/claim", json=claim)).status_code == 200
            assert (await api.get("/v1/jobs/available?miner_id=polling")).status_code == 204
            narrow(tmp_path, key)
            assert (await api.post(f"/v1/jobs/{other}/claim", json=claim)).status_code == 200


async def test_what_a_miner_claimed_before_it_may_finish(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        key, owner = miner_key(tmp_path), make_key(tmp_path)
        job_id = await submit(client, owner, "m")
        async with rest(client, key) as api:
            await register(api, "m")
            claim = {"miner_id": "polling"}
            assert (await api.post(f"/v1/jobs/{job_id}/claim", json=claim)).status_code == 200
            narrow(tmp_path, key, "other")
            done = {"miner_id": "polling", "result": "done"}
            answer = await api.post(f"/v1/jobs/{job_id}/complete", json=done)
            assert (answer.status_code, answer.json()["status"]) == (200, "completed")


async def test_a_stream_ends_when_its_key_no_longer_names_its_models(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", heartbeat_seconds=0.2) as client:
        key = miner_key(tmp_path, "m", "other")
        silent = await hello(client, key, "m", "other")
        await silent.expect("welcome")
        # One that it names still: nothing changes.
        narrow(tmp_path, key, "m", "other", "third")
        await silent.next("heartbeat")
        narrow(tmp_path, key, "m")
        assert await silent.end() == REFUSED
        assert await (await hello(client, key, "other")).end() == REFUSED


async def test_a_message_of_a_stream_meets_the_change_at_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", heartbeat_seconds=600) as client:
        key = miner_key(tmp_path)
        miner = await hello(client, key, "m")
        await miner.expect("welcome")
        narrow(tmp_path, key, "other")
        await miner.send(heartbeat=work_pb2.Heartbeat())
        assert await miner.end() == REFUSED


async def test_streams_of_miners_are_bounded_for_each_key(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_work_streams=2) as client:
        key, other = miner_key(tmp_path), miner_key(tmp_path)
        metadata = (("x-api-key", key),)
        # Also those that say nothing.
        silent = [FakeMiner(client.miners.Work(metadata=metadata)) for _ in range(2)]
        for miner in silent:
            await miner.call.initial_metadata()
        third = FakeMiner(client.miners.Work(metadata=metadata))
        exhausted = (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert await third.end() == exhausted
        welcome = await hello(client, other, "m", miner_id="another")
        await welcome.expect("welcome")
        # Calls are counted by themselves.
        async with rest(client, key) as api:
            assert (await register(api, "m")).status_code == 201
        # The end of one gives its place back.
        await silent[0].call.done_writing()
        assert (await silent[0].end())[0] is grpc.StatusCode.OK
        again = await hello(client, key, "m")
        await again.expect("welcome")

"""What is open of a revoked key ends at once, whatever it is; what others have open does not."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import from_rpc_error
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import KeyRecord, digest_of, key_id_of, new_key
from aitbc_server.store.key_file import open_keys
from tests.envelopes import ended, envelope
from tests.integration.server.harness import PATIENCE_S, Client, coordinator

# What a caller sees of the end.
Seen = Callable[[], Coroutine[Any, Any, str]]
# Opens something of a job with a key, and returns when it has begun.
Open = Callable[[Client, httpx.AsyncClient, str, str], Awaitable[Seen]]
REVOKED = "INVALID_API_KEY"
STREAMS = {
    "StreamJob": jobs_pb2.StreamJobRequest,
    "RunJob": lambda job_id: jobs_pb2.SubmitJobRequest(prompt="p", model="m"),
}


def make_key(data: Path) -> str:
    text = new_key(secrets.randbelow)
    with open_keys(data) as file:
        file.create(
            KeyRecord(
                key_id=key_id_of(text),
                digest=digest_of(text),
                role=Role.CLIENT,
                name="test",
                created_us=1,
            )
        )
    return text


def revoke(data: Path, key: str) -> None:
    with open_keys(data) as file:
        assert file.revoke(key_id_of(key), time.time_ns() // 1000)


def grpc_stream(name: str) -> Open:
    async def begin(client: Client, http: httpx.AsyncClient, key: str, job_id: str) -> Seen:
        make: Any = STREAMS[name]
        request = make(job_id=job_id) if name == "StreamJob" else make(job_id)
        call = getattr(client.jobs, name)(request, metadata=(("x-api-key", key),))
        assert (await call.read()).type == jobs_pb2.JOB_EVENT_TYPE_STATUS

        async def seen() -> str:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            return from_rpc_error(caught.value).reason

        return seen

    return begin


async def grpc_wait(client: Client, http: httpx.AsyncClient, key: str, job_id: str) -> Seen:
    request = jobs_pb2.GetJobRequest(job_id=job_id, wait=60)

    async def asking() -> None:
        await client.jobs.GetJob(request, metadata=(("x-api-key", key),))

    asked = asyncio.create_task(asking())

    async def seen() -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        return from_rpc_error(caught.value).reason

    return seen


async def rest_wait(client: Client, http: httpx.AsyncClient, key: str, job_id: str) -> Seen:
    asked = asyncio.create_task(http.get(f"/v1/jobs/{job_id}?wait=60", headers={"x-api-key": key}))

    async def seen() -> str:
        answer = await asked
        assert answer.status_code == 401
        assert "revoked" in answer.text
        return REVOKED if REVOKED in answer.text else answer.text

    return seen


def rest_stream(method: str, path: str, body: dict[str, Any] | None) -> Open:
    async def begin(client: Client, http: httpx.AsyncClient, key: str, job_id: str) -> Seen:
        request = http.build_request(
            method, path.format(job_id=job_id), json=body, headers={"x-api-key": key}
        )
        answer = await http.send(request, stream=True)
        assert answer.status_code in {200, 201}

        async def seen() -> str:
            text = "".join([piece async for piece in answer.aiter_text()])
            return REVOKED if REVOKED.lower() in text.lower() else text

        return seen

    return begin


def enveloped_stream(kind: str) -> Open:
    async def begin(client: Client, http: httpx.AsyncClient, key: str, job_id: str) -> Seen:
        asked = jobs_pb2.StreamJobRequest(job_id=job_id).SerializeToString()
        headers = {"x-api-key": key, "content-type": kind}
        path = "/aitbc.v1.JobService/StreamJob"
        request = http.build_request("POST", path, content=envelope(asked), headers=headers)
        answer = await http.send(request, stream=True)

        async def seen() -> str:
            await answer.aread()
            over = ended(answer)
            assert over.code == "unauthenticated"
            return over.reason

        return seen

    return begin


OPEN: dict[str, Open] = {
    "gRPC StreamJob": grpc_stream("StreamJob"),
    "gRPC RunJob": grpc_stream("RunJob"),
    "gRPC GetJob": grpc_wait,
    "REST wait": rest_wait,
    "Connect StreamJob": enveloped_stream("application/connect+proto"),
    "gRPC-Web StreamJob": enveloped_stream("application/grpc-web"),
    "REST stream": rest_stream("GET", "/v1/jobs/{job_id}/stream", None),
    "REST run": rest_stream("POST", "/v1/jobs?stream=true", {"prompt": "p", "model": "m"}),
}


@asynccontextmanager
async def serving(data: Path) -> AsyncIterator[tuple[Client, httpx.AsyncClient]]:
    async with (
        coordinator(data, auth="required") as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        yield client, http


async def until_open(client: Client, *keys: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        # Nothing tells that a call waits.
        while not {key_id_of(key) for key in keys} <= set(  # noqa: ASYNC110
            client.coordinator._lasting._calls
        ):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", OPEN)
async def test_what_is_open_of_a_revoked_key_ends(tmp_path: Path, name: str) -> None:
    key, other = make_key(tmp_path), make_key(tmp_path)
    async with serving(tmp_path) as (client, http):
        jobs = {}
        for one in (key, other):
            request = jobs_pb2.SubmitJobRequest(prompt="p", model="m")
            submitted = await client.jobs.SubmitJob(request, metadata=(("x-api-key", one),))
            jobs[one] = submitted.job_id
        of_key = await OPEN[name](client, http, key, jobs[key])
        of_other = asyncio.create_task((await OPEN[name](client, http, other, jobs[other]))())
        await until_open(client, key, other)
        began = time.monotonic()
        revoke(tmp_path, key)
        async with asyncio.timeout(PATIENCE_S):
            assert await of_key() == REVOKED
        # Far from heartbeats, and from the end of a wait.
        assert time.monotonic() - began < 4
        assert not of_other.done()
        of_other.cancel()


async def test_a_chat_that_streams_ends_with_its_key(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    async with serving(tmp_path) as (client, http):
        miner_key = new_key(secrets.randbelow)
        with open_keys(tmp_path) as file:
            file.create(
                KeyRecord(
                    key_id=key_id_of(miner_key),
                    digest=digest_of(miner_key),
                    role=Role.ADMIN,
                    name="miner",
                    created_us=1,
                )
            )
        registered = await http.post(
            "/v1/miners/register",
            json={"miner_id": "poller", "capabilities": ["m"]},
            headers={"x-api-key": miner_key},
        )
        assert registered.is_success
        for is_streaming in (True, False):
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": "hi"}],
                "stream": is_streaming,
            }
            asked = asyncio.create_task(
                http.post("/v1/chat/completions", json=body, headers={"x-api-key": key})
            )
            await until_open(client, key)
            revoke(tmp_path, key)
            answer = await asked
            assert REVOKED.lower() in answer.text.lower()
            if not is_streaming:
                assert answer.status_code == 401
            key = make_key(tmp_path)

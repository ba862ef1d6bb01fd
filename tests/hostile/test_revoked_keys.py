"""Whoever's key is revoked is out at once: its miners, its readers, and those behind a gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, miners_pb2_grpc, work_pb2
from aitbc_server.api.errors import from_rpc_error
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key, revoke_key
from tests.e2e.test_gateway import start_gateway
from tests.envelopes import envelope

# Far below heartbeats, leases and heartbeats of streams.
AT_ONCE_S = 3
PATIENCE_S = 20
REVOKED = "UNAUTHENTICATED INVALID_API_KEY"
JOB = {"prompt": "hello", "model": "m"}


@pytest.fixture
def quiet(launcher: Launcher) -> Coordinator:
    """A coordinator that requires keys, whose streams say nothing by themselves."""
    env = CLEAN_ENV | {"AITBC_HEARTBEAT_SECONDS": "600", "AITBC_LEASE_SECONDS": "3600"}
    return launcher.coordinator("--auth", "required", env=env)


@asynccontextmanager
async def within(coordinator: Coordinator, key: str) -> AsyncIterator[None]:
    """Revokes a key; what is done within must be over at once."""
    await asyncio.to_thread(revoke_key, coordinator.data, key)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        yield
    assert time.monotonic() - began < AT_ONCE_S


async def end_of(call: grpc.aio.StreamStreamCall[Any, Any]) -> str:
    """Returns why a stream ended."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {from_rpc_error(error).reason}"
    return "it ended without an error"


def hello(miner_id: str) -> work_pb2.MinerMessage:
    capacity = work_pb2.Capacity(max_outstanding_jobs=100)
    return work_pb2.MinerMessage(
        hello=work_pb2.Hello(miner_id=miner_id, models=["m"], capacity=capacity)
    )


async def test_miners_that_say_nothing_are_out(quiet: Coordinator) -> None:
    key, other = (create_key(quiet.data, "miner") for _ in range(2))
    async with grpc.aio.insecure_channel(quiet.grpc) as channel:
        stub = miners_pb2_grpc.MinerServiceStub(channel)
        before_hello = stub.Work(metadata=(("x-api-key", key),))
        await before_hello.initial_metadata()
        idle, others = (stub.Work(metadata=(("x-api-key", one),)) for one in (key, other))
        for call, miner_id in ((idle, "revoked"), (others, "honest")):
            await call.write(hello(miner_id))
            welcome: Any = await call.read()
            assert welcome.WhichOneof("message") == "welcome"
        # It waits for its next message as before.
        next_of_other = asyncio.create_task(others.read())
        async with within(quiet, key):
            ends = await asyncio.gather(end_of(before_hello), end_of(idle))
        assert {*ends} == {REVOKED}
        assert not next_of_other.done()
        again = stub.Work(metadata=(("x-api-key", key),))
        assert await end_of(again) == REVOKED
        others.cancel()


@asynccontextmanager
async def reading(url: str, path: str, key: str, body: object) -> AsyncIterator[httpx.Response]:
    sent: dict[str, Any] = {"json": body}
    if isinstance(body, bytes):
        sent = {"content": body, "headers": {"content-type": "application/connect+json"}}
    async with (
        httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=PATIENCE_S) as api,
        api.stream("GET" if body is None else "POST", path, **sent) as answer,
    ):
        assert answer.is_success
        yield answer


async def test_readers_are_out_also_behind_a_gateway(
    quiet: Coordinator, launcher: Launcher, tmp_path: Path
) -> None:
    gateway = f"http://{start_gateway(quiet, launcher, tmp_path / 'gateway.log')}"
    key, other = (create_key(quiet.data, "client") for _ in range(2))
    # Somebody has the model, and no job of it ever begins.
    miner_key = create_key(quiet.data, "miner")
    async with grpc.aio.insecure_channel(quiet.grpc) as channel:
        work = miners_pb2_grpc.MinerServiceStub(channel).Work(metadata=(("x-api-key", miner_key),))
        first = hello("idle")
        first.hello.capacity.max_outstanding_jobs = 0
        await work.write(first)
        await work.read()
        chat = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        jobs = jobs_pb2_grpc.JobServiceStub(channel)
        submitted = await jobs.SubmitJob(
            jobs_pb2.SubmitJobRequest(prompt="hello", model="m"), metadata=(("x-api-key", other),)
        )
        opened = [
            ("/v1/jobs?stream=true", JOB),
            ("/v1/chat/completions", chat),
            ("/v1/responses", {"model": "m", "stream": True, "input": "hi"}),
            ("/v1/messages", chat | {"max_tokens": 8}),
            ("/aitbc.v1.JobService/RunJob", envelope(orjson.dumps(JOB))),
        ]

        async def text_of(url: str, path: str, body: object) -> str:
            async with reading(url, path, key, body) as answer:
                started.release()
                return (await answer.aread()).decode(errors="replace")

        started = asyncio.Semaphore(0)
        asked = [
            asyncio.create_task(text_of(url, path, body))
            for url in (quiet.url, gateway)
            for path, body in opened
        ]
        async with reading(gateway, f"/v1/jobs/{submitted.job_id}/stream", other, None) as of_other:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(started.acquire() for _ in asked))
            async with within(quiet, key):
                texts = await asyncio.gather(*asked)
            for text in texts:
                assert "revoked" in text
            lines = of_other.aiter_lines()
            assert await anext(lines) == "event: status"
        work.cancel()

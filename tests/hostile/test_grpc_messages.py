"""Messages on the gRPC port: those of strangers are not read, those of others are bounded."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scripts.processes import BIN, Coordinator, start_coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, miners_pb2_grpc
from aitbc_server.api.errors import from_rpc_error
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key
from tests.hostile.http2 import Connection
from tests.hostile.victim import MIB, cost_of

SUBMIT, BATCH = "/aitbc.v1.JobService/SubmitJob", "/aitbc.v1.JobService/BatchSubmitJobs"
CHECK = "/grpc.health.v1.Health/Check"
STREAMS = 250
# Said to be long, and never whole.
ENDLESS = b"\x00" + (8 * MIB - 64).to_bytes(4, "big") + b"\x0a" * (8 * MIB - 128)


def raw(channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Returns a method that takes and gives bytes."""
    return channel.unary_unary(path, lambda data: data, lambda data: data)


async def refusal(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> tuple[str, str]:
    """Returns how a call failed."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason, error.details() or ""
    raise AssertionError("the call was answered")


async def test_a_bomb_of_a_stranger_is_not_parsed(guarded: Coordinator) -> None:
    bomb = b"\x0a\x00" * (7 * MIB // 2)
    async with cost_of(guarded) as cost, grpc.aio.insecure_channel(guarded.grpc) as channel:
        calls = [refusal(raw(channel, BATCH)(bomb)) for _ in range(8)]
        answers = await asyncio.gather(*calls)
    assert {reason for reason, _ in answers} == {"UNAUTHENTICATED"}
    assert cost.most_mib < 50
    assert max(cost.health_s) < 1


# Empty jobs, empty messages of one job, tool calls of one message, fields that nobody knows,
# values packed into one field, messages within jobs.
BOMBS = {
    "jobs": (BATCH, b"\x0a\x00" * (7 * MIB // 2), "jobs: must have at most 1000 items"),
    "messages": (SUBMIT, b"\x22\x00" * (7 * MIB // 2), "messages: must have at most 10000 items"),
    "unknown": (
        SUBMIT,
        b"\x98\x7d\x01" * (7 * MIB // 3),
        "message: holds more than 100,000 fields",
    ),
    "below": (
        BATCH,
        (b"\x0a\xa0\x06" + b"\x22\x00" * 400) * 1000,
        "message: holds more than 100,000 fields",
    ),
    "nested": (
        BATCH,
        b"\x0a\xad\x9c\x01\x12\x01m" + b"\x22\x00" * 10_004 + b"\x1a\x00",
        "jobs[0].messages: must have at most 10000 items",
    ),
    "groups": (SUBMIT, b"\x9b\x7d" * (7 * MIB // 2), "message: is not a SubmitJobRequest"),
    "garbage": (SUBMIT, b"\xff" * MIB, "message: is not a SubmitJobRequest"),
    "a short one": (SUBMIT, b"\x0a\xff", "message: is not a SubmitJobRequest"),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_of_a_client_is_counted_before_it_is_parsed(
    guarded: Coordinator, name: str
) -> None:
    key = create_key(guarded.data, "client")
    path, bomb, told = BOMBS[name]
    async with cost_of(guarded) as cost, grpc.aio.insecure_channel(guarded.grpc) as channel:
        call = raw(channel, path)(bomb, metadata=(("x-api-key", key),))
        assert await refusal(call) == ("INVALID_ARGUMENT", told)
    assert cost.most_mib < 60
    assert max(cost.health_s) < 1


async def test_a_small_call_takes_no_large_message(guarded: Coordinator) -> None:
    key = create_key(guarded.data, "client")
    async with grpc.aio.insecure_channel(guarded.grpc) as channel:
        request = jobs_pb2.ListJobsRequest(model="m" * MIB).SerializeToString()
        path = "/aitbc.v1.JobService/ListJobs"
        reason, _ = await refusal(raw(channel, path)(request, metadata=(("x-api-key", key),)))
    assert reason == "PAYLOAD_TOO_LARGE"


async def send_endless(victim: Connection, path: str, **metadata: str) -> list[asyncio.Task[int]]:
    streams = [victim.call(path, **metadata) for _ in range(STREAMS)]
    return [asyncio.create_task(victim.send(stream, ENDLESS)) for stream in streams]


@pytest.mark.parametrize("path", [SUBMIT, "/aitbc.v1.MinerService/Work"])
async def test_messages_of_strangers_that_never_end_are_cut_off(
    guarded: Coordinator, path: str
) -> None:
    async with cost_of(guarded) as cost, Connection(guarded.grpc) as stranger:
        sending = await send_endless(stranger, path)
        async with asyncio.timeout(30):
            await stranger.until_ended(STREAMS)
            sent = sum(await asyncio.gather(*sending))
    assert sent < STREAMS * MIB
    assert cost.most_mib < 60


async def test_messages_to_a_public_method_that_never_end_are_few_and_over_in_time(
    guarded: Coordinator,
) -> None:
    async with cost_of(guarded) as cost, Connection(guarded.grpc) as stranger:
        sending = await send_endless(stranger, CHECK)
        async with asyncio.timeout(60):
            await stranger.until_ended(16)
        for task in sending:
            task.cancel()
    assert cost.most_mib < 120
    assert max(cost.health_s) < 1


async def test_messages_of_a_client_that_never_end_are_few_and_over_in_time(
    guarded: Coordinator,
) -> None:
    key, other = (create_key(guarded.data, "client") for _ in range(2))
    request = jobs_pb2.SubmitJobRequest(prompt="hello", model="m")
    async with (
        cost_of(guarded) as cost,
        Connection(guarded.grpc) as hostile,
        grpc.aio.insecure_channel(guarded.grpc) as channel,
    ):
        sending = await send_endless(hostile, SUBMIT, x_api_key=key)
        async with asyncio.timeout(60):
            await hostile.until_ended(16)
            # Another client is served meanwhile.
            stub = jobs_pb2_grpc.JobServiceStub(channel)
            for _ in range(20):
                await stub.SubmitJob(request, metadata=(("x-api-key", other),))
        for task in sending:
            task.cancel()
    assert cost.most_mib < 200
    assert max(cost.health_s) < 1


async def test_the_memory_of_messages_comes_back(guarded: Coordinator) -> None:
    key = create_key(guarded.data, "client")
    async with cost_of(guarded) as cost:
        for _ in range(4):
            async with Connection(guarded.grpc) as hostile:
                sending = await send_endless(hostile, SUBMIT, x_api_key=key)
                async with asyncio.timeout(60):
                    await hostile.until_ended(16)
                for task in sending:
                    task.cancel()
    assert cost.now_mib < 200


@pytest.mark.parametrize("at_once", [1, 40], ids=["one by one", "at once"])
async def test_a_message_that_is_refused_is_let_go(guarded: Coordinator, at_once: int) -> None:
    key = create_key(guarded.data, "client")
    options = [("grpc.max_send_message_length", -1)]
    # Well formed, and refused by the rule of one field when all of it was read.
    request = jobs_pb2.SubmitJobRequest(model="m", prompt="a" * (8 * MIB - 64))
    data = request.SerializeToString()

    async def ask() -> tuple[str, str]:
        return await refusal(raw(channel, SUBMIT)(data, metadata=(("x-api-key", key),)))

    async with (
        cost_of(guarded) as cost,
        grpc.aio.insecure_channel(guarded.grpc, options=options) as channel,
    ):
        for _ in range(40 // at_once):
            for reason, told in await asyncio.gather(*(ask() for _ in range(at_once))):
                assert (reason, told[:8]) == ("INVALID_ARGUMENT", "prompt: ")
    # Of eight at once, each as bytes and parsed, and what gRPC's core has of them.
    assert cost.most_mib < (100 if at_once == 1 else 400)


async def test_watches_of_health_are_few_for_each_address(guarded: Coordinator) -> None:
    async with cost_of(guarded) as cost, grpc.aio.insecure_channel(guarded.grpc) as channel:
        # Its types know the methods of threads only.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        calls = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2000)]

        async def first(call: grpc.aio.UnaryStreamCall[object, object]) -> str:
            try:
                await call.read()
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason
            return "watches"

        answers = [await first(call) for call in calls]
        # Probes are answered all the same.
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == 1
        for call in calls:
            call.cancel()
    assert answers.count("watches") == 16
    assert set(answers) == {"watches", "TOO_MANY_CALLS", "RATE_LIMITED"}
    assert cost.most_mib < 60


async def test_checks_that_are_never_asked_are_few_for_each_address(guarded: Coordinator) -> None:
    async with cost_of(guarded) as cost, Connection(guarded.grpc) as stranger:
        for _ in range(3000):
            stranger.call(CHECK)
        async with asyncio.timeout(60):
            await stranger.until_ended(2900)
    assert cost.most_mib < 80


async def test_waits_over_rest_count_as_calls_under_way(launcher: Launcher) -> None:
    env = CLEAN_ENV | {"AITBC_LIMIT_CALLS_IN_FLIGHT": "10"}
    coordinator = launcher.coordinator("--auth", "required", env=env)
    key, other = (create_key(coordinator.data, "client") for _ in range(2))
    async with (
        httpx.AsyncClient(base_url=coordinator.url, headers={"x-api-key": key}) as api,
        httpx.AsyncClient(base_url=coordinator.url, headers={"x-api-key": other}) as another,
    ):
        job = {"prompt": "hello", "model": "m"}
        job_id = (await api.post("/v1/jobs", json=job)).json()["job_id"]
        path = f"/v1/jobs/{job_id}"
        waiting = {asyncio.create_task(api.get(path, params={"wait": 60})) for _ in range(11)}
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        answer = refused.result()
        assert (answer.status_code, answer.json()["error_code"]) == (429, "TOO_MANY_CALLS")
        # What does not wait is answered, and so is who waits beside it.
        assert (await api.get(path)).status_code == 200
        theirs = (await another.post("/v1/jobs", json=job)).json()["job_id"]
        brief = {"wait": 0.1}
        assert (await another.get(f"/v1/jobs/{theirs}", params=brief)).status_code == 200
        # An end gives places back.
        assert (await api.post(f"{path}/cancel")).status_code == 200
        assert {one.result().status_code for one in (await asyncio.wait(waiting))[0]} == {200}
        assert (await api.get(path, params=brief)).status_code == 200


async def test_calls_under_way_are_bounded_for_each_caller(launcher: Launcher) -> None:
    env = CLEAN_ENV | {"AITBC_LIMIT_CALLS_IN_FLIGHT": "10"}
    coordinator = launcher.coordinator("--auth", "required", env=env)
    key, other = (create_key(coordinator.data, "client") for _ in range(2))
    async with grpc.aio.insecure_channel(coordinator.grpc) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        mine = (("x-api-key", key),)
        submitted = jobs_pb2.SubmitJobRequest(prompt="hello", model="m")
        job_id = (await stub.SubmitJob(submitted, metadata=mine)).job_id
        watch = jobs_pb2.StreamJobRequest(job_id=job_id)
        watching = [stub.StreamJob(watch, metadata=mine) for _ in range(10)]
        for call in watching:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListJobs(jobs_pb2.ListJobsRequest(), metadata=mine)
        assert from_rpc_error(refused.value).reason == "TOO_MANY_CALLS"
        async with httpx.AsyncClient(base_url=coordinator.url, headers=dict(mine)) as api:
            answer = await api.get(f"/v1/jobs/{job_id}/stream")
        assert (answer.status_code, answer.json()["error_code"]) == (429, "TOO_MANY_CALLS")
        await stub.ListJobs(jobs_pb2.ListJobsRequest(), metadata=(("x-api-key", other),))
        watching[0].cancel()
        # The end of a call gives its place back.
        async with asyncio.timeout(10):
            while True:
                try:
                    await stub.ListJobs(jobs_pb2.ListJobsRequest(), metadata=mine)
                except grpc.aio.AioRpcError:
                    continue
                break
        for call in watching:
            call.cancel()


async def test_connections_leave_files_for_the_rest(tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -n 700; exec "$0" "$@"', BIN / "aitbc-coordinator")
    coordinator = start_coordinator(
        data=tmp_path / "data", log=tmp_path / "log", env=CLEAN_ENV, command=limited
    )
    host, _, port = coordinator.grpc.rpartition(":")
    try:
        with ExitStack() as opened:
            for _ in range(800):
                one = opened.enter_context(socket.create_connection((host, int(port))))
                one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            async with httpx.AsyncClient(base_url=coordinator.url) as api:
                assert (await api.get("/health")).status_code == 200
    finally:
        coordinator.program.kill()


async def test_a_miner_without_a_key_is_refused_before_it_says_anything(
    guarded: Coordinator,
) -> None:
    async with grpc.aio.insecure_channel(guarded.grpc) as channel:
        call = miners_pb2_grpc.MinerServiceStub(channel).Work()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert from_rpc_error(refused.value).reason == "UNAUTHENTICATED"

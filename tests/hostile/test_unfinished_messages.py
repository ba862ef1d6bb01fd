"""Miners that begin messages and never end them: so much of each key is held, and no more."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, miners_pb2_grpc, work_pb2
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key
from tests.hostile.http2 import Connection
from tests.hostile.victim import MIB, cost_of

WORK = "/aitbc.v1.MinerService/Work"
PATIENCE_S = 60
LIMIT_MIB = 32
# Said to be long, and never whole.
ENDLESS = b"\x00" + (8 * MIB - 64).to_bytes(4, "big") + b"\x0a" * (8 * MIB - 128)
CONNECTIONS, STREAMS = 4, 15


@pytest.fixture
def coordinator(launcher: Launcher) -> Coordinator:
    """A coordinator that requires keys, and takes little of a key at once."""
    env = CLEAN_ENV | {"AITBC_LIMIT_WORK_BYTES": str(LIMIT_MIB * MIB)}
    return launcher.coordinator("--auth", "required", env=env)


def framed(message: work_pb2.MinerMessage) -> bytes:
    data = message.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


def hello(miner_id: str) -> work_pb2.MinerMessage:
    capacity = work_pb2.Capacity(max_outstanding_jobs=1)
    return work_pb2.MinerMessage(
        hello=work_pb2.Hello(miner_id=miner_id, models=["m"], capacity=capacity)
    )


async def send_all(connection: Connection) -> None:
    """Sends to each stream what never ends, over a line of 100 MiB a second for all."""
    for stream in range(1, 2 * STREAMS, 2):
        for at in range(0, len(ENDLESS), MIB):
            await connection.send(stream, ENDLESS[at : at + MIB])
            await asyncio.sleep(CONNECTIONS / 100)


async def test_what_never_ends_is_bounded_for_each_key(coordinator: Coordinator) -> None:
    key, other, client = (
        create_key(coordinator.data, role) for role in ("miner", "miner", "client")
    )
    async with (
        cost_of(coordinator) as cost,
        AsyncExitStack() as opened,
        grpc.aio.insecure_channel(coordinator.grpc) as channel,
    ):
        honest = miners_pb2_grpc.MinerServiceStub(channel).Work(metadata=(("x-api-key", other),))
        await honest.write(hello("honest"))
        assert (await read(honest)).WhichOneof("message") == "welcome"
        hostile = [
            await opened.enter_async_context(Connection(coordinator.grpc))
            for _ in range(CONNECTIONS)
        ]
        for number, connection in enumerate(hostile):
            for place in range(STREAMS):
                stream = connection.call(WORK, x_api_key=key)
                await connection.send(stream, framed(hello(f"hostile-{number}-{place}")))
        sending = [asyncio.create_task(send_all(one)) for one in hostile]
        async with asyncio.timeout(PATIENCE_S):
            # What is left may hold no more than the limit.
            most = LIMIT_MIB // 8
            while CONNECTIONS * STREAMS - sum(len(one.ended) for one in hostile) > most:
                await asyncio.wait(
                    [asyncio.create_task(one.until_ended(len(one.ended) + 1)) for one in hostile],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        # The others work meanwhile.
        jobs = jobs_pb2_grpc.JobServiceStub(channel)
        mine = (("x-api-key", client),)
        submitted = await jobs.SubmitJob(
            jobs_pb2.SubmitJobRequest(prompt="hello", model="m"), metadata=mine
        )
        assert submitted.job_id
        for task in sending:
            task.cancel()
        honest.cancel()
    # Of 480 that were begun.
    assert cost.most_mib < LIMIT_MIB + 120
    assert max(cost.health_s) < 1


async def read(call: grpc.aio.StreamStreamCall[Any, Any]) -> work_pb2.CoordinatorMessage:
    message = await call.read()
    assert isinstance(message, work_pb2.CoordinatorMessage)
    return message


async def test_large_messages_that_end_are_taken(coordinator: Coordinator) -> None:
    key = create_key(coordinator.data, "miner")
    update = work_pb2.Update(lease_id="nobody's")
    update.completion.result = "x" * MIB
    large = work_pb2.MinerMessage(updates=work_pb2.Updates(updates=[update]))
    async with grpc.aio.insecure_channel(coordinator.grpc) as channel:
        stub = miners_pb2_grpc.MinerServiceStub(channel)
        calls = [stub.Work(metadata=(("x-api-key", key),)) for _ in range(20)]
        for place, call in enumerate(calls):
            await call.write(hello(f"honest-{place}"))
            assert (await read(call)).WhichOneof("message") == "welcome"

        async def send(call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
            for _ in range(8):
                await call.write(large)

        await asyncio.gather(*(send(call) for call in calls))
        # All were taken: the cancellation of a lease that is nobody's came for each stream.
        for call in calls:
            kinds = set()
            while "cancellations" not in kinds:
                kinds.add((await read(call)).WhichOneof("message"))
            assert not call.done()
        for call in calls:
            call.cancel()

"""Connections to the gRPC port: one address has so many, and who reads nothing loses its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import work_pb2
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key, revoke_key
from tests.hostile.http2 import Connection
from tests.hostile.victim import cost_of

PATIENCE_S = 20
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
EACH = 50


@pytest.fixture
def bounded(launcher: Launcher) -> Coordinator:
    """A coordinator that takes few connections of an address."""
    env = CLEAN_ENV | {"AITBC_GRPC_MAX_CONNECTIONS_PER_ADDRESS": str(EACH)}
    return launcher.coordinator(env=env)


@contextmanager
def connections(
    coordinator: Coordinator, count: int, *, of: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    """Opens connections from an address."""
    host, _, port = coordinator.grpc.rpartition(":")
    with ExitStack() as opened:
        made = []
        for _ in range(count):
            one = socket.create_connection((host, int(port)), source_address=(of, 0))
            made.append(opened.enter_context(one))
            one.sendall(HELLO)
            one.setblocking(False)
        yield made


def is_open(connection: socket.socket) -> bool:
    """Says whether the other side has not closed it."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


async def until_open(made: list[socket.socket], most: int) -> None:
    """Waits until at most so many are open."""
    async with asyncio.timeout(PATIENCE_S):
        # Nothing tells when others close.
        while sum(map(is_open, made)) > most:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_one_address_has_so_many_and_others_have_theirs(bounded: Coordinator) -> None:
    with (
        connections(bounded, EACH // 2) as early,
        connections(bounded, EACH // 2, of="127.0.0.3") as others,
        connections(bounded, 8 * EACH) as late,
    ):
        await until_open(early + late, EACH)
        # Who was there before stays.
        assert all(map(is_open, early))
        assert all(map(is_open, others))
        with connections(bounded, 1, of="127.0.0.4") as one:
            await until_open(late, EACH // 2)
            assert all(map(is_open, one))


async def test_a_flood_of_connections_costs_little_and_ends(bounded: Coordinator) -> None:
    async with cost_of(bounded) as cost:
        for _ in range(3):
            with connections(bounded, 1000) as flood:
                await until_open(flood, EACH)
    assert cost.most_mib < 100
    assert max(cost.health_s) < 1


async def test_a_miner_that_reads_nothing_is_out_when_its_key_is(launcher: Launcher) -> None:
    coordinator = launcher.coordinator("--auth", "required")
    key, client = create_key(coordinator.data, "miner"), create_key(coordinator.data, "client")
    async with (
        Connection(coordinator.grpc) as hostile,
        httpx.AsyncClient(base_url=coordinator.url, headers={"x-api-key": client}) as api,
    ):
        stream = hostile.call("/aitbc.v1.MinerService/Work", x_api_key=key)
        message = work_pb2.MinerMessage(
            hello=work_pb2.Hello(
                miner_id="deaf",
                models=["m"],
                capacity=work_pb2.Capacity(max_outstanding_jobs=100),
            )
        ).SerializeToString()
        await hostile.send(stream, b"\0" + len(message).to_bytes(4, "big") + message)
        # More than its window of 64 KiB: the write of the coordinator does not end.
        large = {"model": "m", "prompt": "x" * 500_000}
        job_ids = [(await api.post("/v1/jobs", json=large)).json()["job_id"] for _ in range(8)]
        async with asyncio.timeout(PATIENCE_S):
            while (await api.get(f"/v1/jobs/{job_ids[0]}")).json()["status"] != "running":
                pass
        await asyncio.to_thread(revoke_key, coordinator.data, key)
        async with asyncio.timeout(PATIENCE_S):
            await hostile.until_ended(1)
        assert hostile.is_closed

"""The attacks of strangers through nginx, as `deploy/nginx.conf` has it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import Launcher
from tests.e2e.test_deploy import behind_nginx, proxied
from tests.hostile.http2 import Connection
from tests.hostile.test_grpc_messages import BATCH, CHECK, ENDLESS, SUBMIT, raw, refusal
from tests.hostile.victim import MIB, cost_of

# Streams of one connection: most that nginx lets through for long.
STREAMS = 120


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    """A coordinator that requires keys, and trusts its proxy."""
    return launcher.coordinator("--auth", "required", env=proxied())


@pytest.fixture
def address(launcher: Launcher, tmp_path: Path, victim: Coordinator) -> Iterator[str]:
    """Where nginx stands for it."""
    with behind_nginx(launcher, tmp_path, victim, "localhost") as address:
        yield address


@pytest.fixture
def tls(tmp_path: Path, address: str) -> ssl.SSLContext:
    """Trusts nginx."""
    assert address
    return ssl.create_default_context(cafile=tmp_path / "ca.pem")


async def test_a_bomb_of_a_stranger_is_not_parsed(
    victim: Coordinator, address: str, tmp_path: Path
) -> None:
    credentials = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
    bomb = b"\x0a\x00" * (7 * MIB // 2)
    async with (
        cost_of(victim) as cost,
        grpc.aio.secure_channel(address, credentials) as channel,
    ):
        answers = await asyncio.gather(*(refusal(raw(channel, BATCH)(bomb)) for _ in range(8)))
    assert {reason for reason, _ in answers} == {"UNAUTHENTICATED"}
    assert cost.most_mib < 50
    assert max(cost.health_s) < 1


@pytest.mark.parametrize("path", [SUBMIT, CHECK])
async def test_messages_that_never_end_take_little(
    victim: Coordinator, address: str, tls: ssl.SSLContext, path: str
) -> None:
    tls.set_alpn_protocols(["h2"])
    async with cost_of(victim) as cost, Connection(address, tls) as stranger:
        streams = [stranger.call(path) for _ in range(STREAMS)]
        sending = [asyncio.create_task(stranger.send(stream, ENDLESS)) for stream in streams]
        async with asyncio.timeout(60):
            await stranger.until_ended(16)
        for task in sending:
            task.cancel()
    assert cost.most_mib < 120
    assert max(cost.health_s) < 1


async def test_bodies_of_strangers_are_not_read(
    victim: Coordinator, address: str, tls: ssl.SSLContext
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(7):
            yield b"[" * MIB

    headers = {"Content-Type": "application/json"}
    async with (
        cost_of(victim) as cost,
        httpx.AsyncClient(base_url=f"https://{address}", verify=tls, timeout=60) as api,
    ):
        posts = [api.post("/v1/jobs", content=endless(), headers=headers) for _ in range(16)]
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {401}
    assert cost.most_mib < 50
    assert max(cost.health_s) < 1

"""Streams outlive proxies that cut idle ones, and dead connections are noticed on both sides."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from chaos.proxy import Proxy
from scripts.processes import Coordinator, Program, start_miner

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import final, submit

JOB = {"prompt": "hello", "model": "llama3.2"}
OPENED = '"session.opened"'
LEASE_S = 3.0
QUICK = {"AITBC_LEASE_SECONDS": str(LEASE_S), "AITBC_HEARTBEAT_SECONDS": "0.5"}
# Says nothing for longer than any proxy here waits.
SILENT = {"AITBC_LEASE_SECONDS": "120", "AITBC_HEARTBEAT_SECONDS": "60"}

NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    # A stream is one request, and may be long.
    client_max_body_size 0;
    # Idle for this long is dead, both ways.
    client_body_timeout 2s;
    grpc_read_timeout 2s;
    grpc_send_timeout 2s;
{servers}
}}
"""
SERVER = """
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{ grpc_pass grpc://{target}; }}
    }}
"""


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_open(port: int) -> bool:
    """Says whether somebody listens."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def nginx_command() -> str:
    """Returns nginx, which is not on everybody's path."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, "install nginx, as `make test` does"
    return found


@contextmanager
def nginx(launcher: Launcher, directory: Path, *targets: str) -> Iterator[list[str]]:
    """Runs nginx before these addresses; gives the addresses at which it stands for them."""
    ports = [free_port() for _ in targets]
    servers = "".join(
        SERVER.format(port=port, target=target) for port, target in zip(ports, targets, strict=True)
    )
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, servers=servers))
    program = launcher.own(
        Program([nginx_command(), "-c", config], log=directory / "nginx.log", env=CLEAN_ENV)
    )
    deadline = time.monotonic() + 20
    for port in ports:
        while not is_open(port):
            assert time.monotonic() < deadline, program.tail()
    yield [f"127.0.0.1:{port}" for port in ports]


def miner_at(launcher: Launcher, address: str, directory: Path, name: str) -> Program:
    """Starts an echo miner that connects to this address."""
    return launcher.own(
        start_miner(address, miner_id=name, log=directory / f"{name}.log", env=CLEAN_ENV)
    )


def test_an_idle_stream_outlives_an_l7_proxy_because_of_its_heartbeats(
    launcher: Launcher, tmp_path: Path
) -> None:
    beating, silent = (
        launcher.coordinator(env=CLEAN_ENV | QUICK),
        launcher.coordinator(env=CLEAN_ENV | SILENT),
    )
    with nginx(launcher, tmp_path, beating.grpc, silent.grpc) as (to_beating, to_silent):
        miner_at(launcher, to_beating, tmp_path, "beating")
        miner_at(launcher, to_silent, tmp_path, "silent")
        beating.program.wait_for_line(OPENED, timeout_s=30)
        # Without them the proxy cuts the stream, and cuts it again.
        for _ in range(3):
            silent.program.wait_for_line(OPENED, timeout_s=30, after=silent.program.line_count())
        assert beating.program.tail(1000).count(OPENED) == 1
        with httpx.Client(base_url=beating.url, timeout=70) as api:
            assert final(api, submit(api))["miner_id"] == "beating"


@pytest.fixture
async def network(launcher: Launcher) -> AsyncIterator[tuple[Coordinator, Proxy]]:
    """A coordinator behind a proxy of our own."""
    coordinator = launcher.coordinator(env=CLEAN_ENV | QUICK)
    proxy = Proxy("127.0.0.1", int(coordinator.grpc.rpartition(":")[2]), random.Random(1))
    await proxy.start()
    yield coordinator, proxy
    await proxy.close()


async def begin_far_away(
    network: tuple[Coordinator, Proxy], launcher: Launcher, directory: Path, api: httpx.AsyncClient
) -> str:
    """Returns a job that a miner behind the proxy has just begun, and never ends."""
    _, proxy = network
    launcher.own(
        start_miner(
            f"127.0.0.1:{proxy.port}",
            miner_id="far",
            log=directory / "far.log",
            options=["--engine-opt", "latency=600"],
            env=CLEAN_ENV,
        )
    )
    job_id = str((await api.post("/v1/jobs", json=JOB)).json()["job_id"])
    await held_by(api, job_id, "far")
    return job_id


async def test_a_job_runs_elsewhere_within_a_lease_and_a_second_when_its_miner_is_cut_off(
    network: tuple[Coordinator, Proxy], launcher: Launcher, tmp_path: Path
) -> None:
    coordinator, proxy = network
    async with httpx.AsyncClient(base_url=coordinator.url, timeout=70) as api:
        job_id = await begin_far_away(network, launcher, tmp_path, api)
        miner_at(launcher, coordinator.grpc, tmp_path, "near")
        await wait_for_line(coordinator.program, f'"near".*{OPENED}')
        began = time.monotonic()
        proxy.partition()
        await held_by(api, job_id, "near")
        assert time.monotonic() - began <= LEASE_S + 1


@pytest.mark.parametrize("what", ["black_hole", "half_open"])
async def test_a_miner_notices_a_dead_connection_and_comes_back(
    what: str, network: tuple[Coordinator, Proxy], launcher: Launcher, tmp_path: Path
) -> None:
    coordinator, proxy = network
    async with httpx.AsyncClient(base_url=coordinator.url, timeout=70) as api:
        job_id = await begin_far_away(network, launcher, tmp_path, api)
        seen = coordinator.program.line_count()
        assert getattr(proxy, what)() == 1
        await wait_for_line(coordinator.program, f'"far".*{OPENED}', after=seen)
        await held_by(api, job_id, "far")


async def held_by(api: httpx.AsyncClient, job_id: str, miner_id: str) -> None:
    """Returns as soon as this miner has the job."""
    async with asyncio.timeout(60):
        while (await api.get(f"/v1/jobs/{job_id}")).json().get("miner_id") != miner_id:
            pass


async def wait_for_line(program: Program, pattern: str, *, after: int = 0) -> None:
    """Waits for what a program prints, while the proxy goes on."""
    await asyncio.to_thread(program.wait_for_line, pattern, timeout_s=30, after=after)

"""Callers that ask for large answers, on whatever way these come, and never read them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, work_pb2
from tests.conftest import Launcher
from tests.e2e.stream_miner import stream_miner
from tests.envelopes import ended, envelope
from tests.hostile.http2 import Connection
from tests.hostile.victim import MIB, cost_of

# Answers of one caller that wait to be read.
MOST_UNREAD_MIB = 32
# What sockets hold of each, and what is being made of the last ones.
MOST_BESIDE_MIB = 100
# As large as a result may be, and larger than what sockets hold of it.
SILENT = 100
LARGE_BYTES = 4 * MIB - 4096
PATIENCE_S = 60


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    """A coordinator with the default bounds."""
    return launcher.coordinator()


async def large_job(victim: Coordinator, api: httpx.AsyncClient) -> str:
    """Returns a job whose result is as large as may be."""
    job = {"model": "m", "prompt": "p", "params": {"max_tokens": 1_000_000}}
    async with stream_miner(victim.grpc, "m", window=1) as miner:
        job_id = str((await api.post("/v1/jobs", json=job)).json()["job_id"])
        completion = work_pb2.Completion(result="x" * LARGE_BYTES, finish_reason="stop")
        completion.usage.completion_tokens = 1_000_000
        await miner.answer(await miner.assignment(), completion)
        async with asyncio.timeout(PATIENCE_S):
            while (await api.get("/v1/jobs?limit=1&status=completed")).json()["jobs"] == []:
                pass
    return job_id


async def large_file(victim: Coordinator, api: httpx.AsyncClient) -> str:
    content = io.BytesIO(b"x" * LARGE_BYTES * 2)
    answer = await api.post("/v1/files", data={"purpose": "batch"}, files={"file": content})
    return str(answer.json()["id"])


class Silent:
    """Connections over HTTP/1.1, that ask and never read."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._sockets: list[socket.socket] = []

    async def ask(self, path: str, kind: str = "", body: bytes = b"") -> None:
        """Asks on a connection of its own: by POST where there is a body."""
        one = socket.socket()
        self._sockets.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(one, (self._host, int(self._port)))
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: localhost\r\n"
        if body:
            head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        await loop.sock_sendall(one, head.encode() + b"\r\n" + body)

    async def statuses(self) -> list[int]:
        """Returns the status of each answer, of which it reads no more."""
        loop = asyncio.get_running_loop()
        lines = [await loop.sock_recv(one, len("HTTP/1.1 200")) for one in self._sockets]
        return [int(line.split()[1]) for line in lines]

    def close(self) -> None:
        """Goes away."""
        for one in self._sockets:
            one.close()


@contextlib.asynccontextmanager
async def silence(
    victim: Coordinator, path: str, kind: str = "", body: bytes = b""
) -> AsyncIterator[Silent]:
    silent = Silent(victim.http)
    try:
        for _ in range(SILENT):
            await silent.ask(path, kind, body)
        yield silent
    finally:
        silent.close()


PATHS: dict[str, Callable[[str], str]] = {
    "a job": lambda job_id: f"/v1/jobs/{job_id}",
    "a job as a stream": lambda job_id: f"/v1/jobs/{job_id}/stream",
    "a response": lambda job_id: f"/v1/responses/resp_{job_id.removeprefix('job-')}",
    "a response as a stream": lambda job_id: (
        f"/v1/responses/resp_{job_id.removeprefix('job-')}?stream=true"
    ),
    "a job over Connect": lambda job_id: (
        f"/aitbc.v1.JobService/GetJob?encoding=json&message=%7B%22jobId%22:%22{job_id}%22%7D"
    ),
}


@pytest.mark.parametrize("name", PATHS)
async def test_large_answers_over_http_that_are_never_read_are_few(
    name: str, victim: Coordinator
) -> None:
    async with httpx.AsyncClient(base_url=victim.url, timeout=PATIENCE_S) as api:
        job_id = await large_job(victim, api)
        path = PATHS[name](job_id)
        async with cost_of(victim) as cost:
            async with silence(victim, path) as silent, asyncio.timeout(PATIENCE_S):
                statuses = await silent.statuses()
                assert set(statuses) == {200, 429}
                assert statuses.count(200) <= MOST_UNREAD_MIB * MIB / LARGE_BYTES
            async with asyncio.timeout(PATIENCE_S):
                while (await api.get(path)).status_code != 200:
                    pass
        assert cost.most_mib < MOST_UNREAD_MIB + MOST_BESIDE_MIB


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("application/grpc-web", "GetJob"),
        ("application/grpc-web-text", "StreamJob"),
        ("application/connect+proto", "StreamJob"),
    ],
)
async def test_large_answers_over_connect_that_are_never_read_are_few(
    kind: str, method: str, victim: Coordinator
) -> None:
    async with httpx.AsyncClient(base_url=victim.url, timeout=PATIENCE_S) as api:
        job_id = await large_job(victim, api)
        body = envelope(jobs_pb2.GetJobRequest(job_id=job_id).SerializeToString())
        body = b64encode(body) if "text" in kind else body
        path = f"/aitbc.v1.JobService/{method}"
        async with cost_of(victim) as cost:
            async with silence(victim, path, kind, body), asyncio.timeout(PATIENCE_S):
                while (await api.get(f"/v1/jobs/{job_id}")).status_code != 429:
                    pass
                told = await api.post(path, content=body, headers={"content-type": kind})
                assert ended(told).reason == "TOO_MUCH_UNREAD"
            async with asyncio.timeout(PATIENCE_S):
                while (await api.get(f"/v1/jobs/{job_id}")).status_code != 200:
                    pass
        assert cost.most_mib < 3 * MOST_UNREAD_MIB + MOST_BESIDE_MIB


async def test_a_file_that_is_never_read_takes_little(victim: Coordinator) -> None:
    async with httpx.AsyncClient(base_url=victim.url, timeout=PATIENCE_S) as api:
        path = f"/v1/files/{await large_file(victim, api)}/content"
        async with cost_of(victim) as cost:
            async with silence(victim, path):
                content = (await api.get(path)).content
            assert content == b"x" * LARGE_BYTES * 2
        assert cost.most_mib < MOST_UNREAD_MIB + MOST_BESIDE_MIB


async def test_streams_over_grpc_that_are_never_read_are_few(victim: Coordinator) -> None:
    async with httpx.AsyncClient(base_url=victim.url, timeout=PATIENCE_S) as api:
        job_id = await large_job(victim, api)
        request = b"\x0a" + bytes((len(job_id),)) + job_id.encode()
        message = b"\x00" + len(request).to_bytes(4, "big") + request
        async with cost_of(victim) as cost:
            async with Connection(victim.grpc) as silent:
                # It never widens its window, so that no answer but the first 64 KiB gets out.
                for _ in range(SILENT):
                    stream = silent.call("/aitbc.v1.JobService/StreamJob")
                    await silent.send(stream, message)
                    silent.end(stream)
                async with asyncio.timeout(PATIENCE_S):
                    while (await api.get(f"/v1/jobs/{job_id}")).status_code != 429:
                        pass
            async with asyncio.timeout(PATIENCE_S):
                while (await api.get(f"/v1/jobs/{job_id}")).status_code != 200:
                    pass
        assert cost.most_mib < MOST_UNREAD_MIB + MOST_BESIDE_MIB

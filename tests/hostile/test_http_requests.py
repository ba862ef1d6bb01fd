"""HTTP requests that do not end, or that say after their body what belongs before it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key
from tests.hostile.victim import MIB, cost_of

JOB = json.dumps({"prompt": "hello", "model": "m"}).encode()
HEAD = b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
JSON = b"content-type: application/json\r\n"
PATIENCE_S = 30.0


class Socket:
    """A connection to the REST port, byte by byte."""

    def __init__(self, address: str, local: str | None = None) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._local = None if local is None else (local, 0)

    async def __aenter__(self) -> Socket:
        self.reader, self.writer = await asyncio.open_connection(
            self._host, int(self._port), local_addr=self._local
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def answer(self) -> tuple[int, bytes]:
        """Returns the status of the next answer, and its body."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            return int(head.split(b" ")[1]), await self.reader.readexactly(int(length or 0))

    async def pour(self, piece: bytes, most: int) -> int:
        """Sends a piece again and again; returns how many bytes went until the end."""
        sent = 0
        try:
            async with asyncio.timeout(PATIENCE_S):
                while sent < most:
                    self.writer.write(piece)
                    await self.writer.drain()
                    sent += len(piece)
        except (ConnectionError, TimeoutError):
            pass
        return sent


def chunked(body: bytes, *trailers: bytes) -> bytes:
    """Returns a chunked body, and fields after it."""
    return b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, b"".join(trailers))


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_fields_after_a_body_take_no_memory(guarded: Coordinator, is_let_in: bool) -> None:
    key = create_key(guarded.data, "client").encode()
    named = b"x-api-key: " + key + b"\r\n" if is_let_in else b""
    async with cost_of(guarded) as cost, Socket(guarded.http) as one:
        one.writer.write(HEAD + JSON + named + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n")
        sent = await one.pour(b"a:b\r\n" * 13_000, 100 * MIB)
    assert sent < 20 * MIB
    assert cost.most_mib < 30


async def test_a_field_after_a_body_that_never_ends_is_cut_off(guarded: Coordinator) -> None:
    async with cost_of(guarded) as cost, Socket(guarded.http) as one:
        one.writer.write(HEAD + JSON + CHUNKED + b"\r\n2\r\n{}\r\n0\r\na: ")
        sent = await one.pour(b"b" * 65_536, 100 * MIB)
    assert sent < 20 * MIB
    assert cost.most_mib < 30


async def test_a_field_after_the_body_is_no_header(guarded: Coordinator) -> None:
    key = create_key(guarded.data, "client").encode()
    named = b"x-api-key: " + key + b"\r\n"
    for before, after, status in (
        (JSON, named, 401),
        (named + b"content-type: text/plain\r\n", JSON, 415),
        (named, JSON, 415),
        (named + JSON, b"idempotency-key: it\r\n", 201),
    ):
        async with Socket(guarded.http) as one:
            one.writer.write(HEAD + before + CHUNKED + b"\r\n" + chunked(JOB, after))
            assert (await one.answer())[0] == status, (before, after)
    # Nor did it make the last job one that can be asked for again.
    async with Socket(guarded.http) as one:
        again = HEAD + named + JSON + b"idempotency-key: it\r\ncontent-length: %d\r\n\r\n%s"
        one.writer.write(again % (len(JOB), JOB))
        status, _ = await one.answer()
    assert status == 201


async def test_requests_that_wait_for_an_endless_one_are_few(guarded: Coordinator) -> None:
    async with cost_of(guarded) as cost:
        sockets = [Socket(guarded.http) for _ in range(40)]
        for one in sockets:
            await one.__aenter__()
            one.writer.write(b"GET /explorer/blocks:watch HTTP/1.1\r\nhost: localhost\r\n\r\n")
            one.writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 7000)
        for one in sockets:
            async with asyncio.timeout(PATIENCE_S):
                await one.reader.readuntil(b"\r\n\r\n")
        for one in sockets:
            await one.__aexit__()
    assert cost.most_mib < 60


async def test_some_requests_may_be_sent_at_once(guarded: Coordinator) -> None:
    async with Socket(guarded.http) as one:
        one.writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n" * 12)
        for _ in range(12):
            assert (await one.answer())[0] == 200


async def test_one_address_cannot_have_all_connections(launcher: Launcher) -> None:
    env = CLEAN_ENV | {
        "AITBC_HTTP_MAX_CONNECTIONS": "40",
        "AITBC_HTTP_MAX_CONNECTIONS_PER_ADDRESS": "30",
    }
    victim = launcher.coordinator(env=env)

    async def status(local: str) -> int:
        async with Socket(victim.http, local) as one:
            one.writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return (await one.answer())[0]

    idle = [Socket(victim.http, "127.0.0.2") for _ in range(60)]
    for one in idle:
        await one.__aenter__()
    assert await status("127.0.0.2") == 503
    assert await status("127.0.0.3") == 200
    for one in idle:
        await one.__aexit__()
    async with asyncio.timeout(PATIENCE_S):
        while await status("127.0.0.2") != 200:
            pass


async def test_a_body_that_is_too_large_is_answered_whole(guarded: Coordinator) -> None:
    # To close at once would have clients that still send lose the answer.
    key = create_key(guarded.data, "client")
    async with httpx.AsyncClient(base_url=guarded.url, headers={"X-Api-Key": key}) as api:
        for _ in range(5):
            headers = {"Content-Type": "application/json"}
            answer = await api.post("/v1/jobs", content=bytes(20 * MIB), headers=headers)
            assert answer.status_code == 413
            assert answer.json()["error_code"] == "PAYLOAD_TOO_LARGE"

"""What a client may take of a connection, and what it is told when it takes more."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import httpx
import orjson
import pytest
from google.protobuf.message import Message

from aitbc_server.rest.app import RestApp
from aitbc_server.rest.asgi import Receive, Scope, Send
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.rest.peers import Peers
from aitbc_server.rest.server import RestServer
from tests.unit.rest.serving import FakeBackend

PATIENCE_S = 20.0
GET = b"GET /things/a HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@asynccontextmanager
async def serving(
    backend: FakeBackend | None = None, *, call_timeout_s: float = 90, **limits: float
) -> AsyncIterator[int]:
    """Serves with these limits; yields the port."""
    app = RestApp(backend or FakeBackend(), call_timeout_s=call_timeout_s)
    values = {"sweep_s": 0.05} | limits
    server = RestServer(app, limits=HttpLimits(**values))  # type: ignore[arg-type]
    await server.start("127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.stop(grace_s=0)


class Connection:
    """A socket, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Sends bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Returns the next response: status, headers, body."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
            return int(status.split(" ")[1]), headers, body

    async def ended(self) -> bytes:
        """Returns what comes before the server closes the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def refused(self, status: int, error_code: str) -> None:
        """Asserts that the next response is this error, and the last one."""
        found, headers, body = await self.response()
        assert (found, orjson.loads(body)["error_code"]) == (status, error_code)
        assert set(orjson.loads(body)) == {"detail", "error_code"}
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert await self.ended() == b""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Opens a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"GET /things/a HTTP/9.9\r\n\r\n", id="a version that is none"),
        pytest.param(b"GET /things/a b HTTP/1.1\r\n\r\n", id="a space in the path"),
        pytest.param(b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", id="CONNECT"),
        pytest.param(GET + b"bad header\r\n\r\n", id="a header without colon"),
        pytest.param(GET + b"bad\x00: x\r\n\r\n", id="NUL in a name"),
        pytest.param(GET + b"x: \x01\r\n\r\n", id="a control character in a value"),
        pytest.param(GET + b"x: a\nb: c\r\n\r\n", id="a bare line feed"),
        pytest.param(GET + b"x: a\r\n b\r\n\r\n", id="a folded header"),
        pytest.param(POST + b"content-length : 2\r\n\r\n{}", id="a space before the colon"),
        pytest.param(POST + b"content-length: -2\r\n\r\n{}", id="a negative length"),
        pytest.param(POST + b"content-length: +2\r\n\r\n{}", id="a length with a sign"),
        pytest.param(POST + b"content-length: 2, 2\r\n\r\n{}", id="a list of lengths"),
        pytest.param(POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", id="two lengths"),
        pytest.param(
            POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            id="a length and chunks",
        ),
        pytest.param(
            POST + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
            id="chunks and a length",
        ),
        pytest.param(
            POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunks not last"
        ),
        pytest.param(POST + b"transfer-encoding: xchunked\r\n\r\n", id="an unknown encoding"),
        pytest.param(
            POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", id="no chunk size"
        ),
        pytest.param(
            POST + b"transfer-encoding: chunked\r\n\r\n2;a=\x01\r\n{}\r\n0\r\n\r\n",
            id="a control character after a chunk's size",
        ),
    ],
)
async def test_what_is_not_http_or_can_be_read_in_two_ways_is_refused(
    request_bytes: bytes,
) -> None:
    async with serving() as port, connected(port) as connection:
        await connection.send(request_bytes)
        await connection.refused(400, "MALFORMED_REQUEST")


async def test_a_second_request_is_answered_on_the_same_connection() -> None:
    async with serving() as port, connected(port) as connection:
        for _ in range(2):
            await connection.send(GET + b"\r\n")
            assert (await connection.response())[0] == 200


async def test_what_follows_a_good_request_cannot_disturb_its_answer() -> None:
    backend = FakeBackend()
    release = asyncio.Event()
    answer = backend.answer

    async def slow(request: Message) -> Message:
        await release.wait()
        return await answer(request)

    backend.answer = slow
    async with serving(backend) as port, connected(port) as connection:
        await connection.send(GET + b"\r\n" + b"nonsense\r\n\r\n")
        release.set()
        status, headers, _ = await connection.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.ended() == b""


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GET + b"x: " + b"a" * 40_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(GET + b"x: " + b"a" * 40_000, id="a header without end"),
        pytest.param(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(GET + b"x: a\r\n" * 200 + b"\r\n", id="many headers"),
        pytest.param(GET + b"x: " + b"a" * 500_000 + b"\r\n\r\n", id="a very long header"),
    ],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with serving() as port, connected(port) as connection:
        await connection.send(head)
        await connection.refused(431, "HEADERS_TOO_LARGE")


async def test_a_large_body_is_no_large_head() -> None:
    body = orjson.dumps({"name": "x" * 1_000_000})
    async with serving(head_bytes=4096) as port, connected(port) as connection:
        await connection.send(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
        status, _, _ = await connection.response()
        assert status != 431


async def test_a_head_that_does_not_arrive_is_not_waited_for() -> None:
    async with serving(head_s=0.2) as port, connected(port) as connection:
        await connection.send(GET)
        await connection.refused(408, "REQUEST_TIMEOUT")


async def test_a_head_that_drips_is_not_waited_for() -> None:
    async with serving(head_s=0.3) as port, connected(port) as connection:

        async def drip() -> None:
            while True:
                await connection.send(b"x: y\r\n")
                await asyncio.sleep(0.02)

        await connection.send(GET)
        dripping = asyncio.create_task(drip())
        await connection.refused(408, "REQUEST_TIMEOUT")
        dripping.cancel()


async def test_a_connection_without_a_request_is_closed() -> None:
    async with serving(head_s=0.2) as port, connected(port) as connection:
        assert await connection.ended() == b""


async def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    async with serving(body_s=0.2) as port, connected(port) as connection:
        await connection.send(POST + b"content-length: 100\r\n\r\n{")
        await connection.refused(408, "REQUEST_TIMEOUT")


async def test_a_connection_without_a_next_request_is_closed() -> None:
    async with serving(idle_s=0.2) as port, connected(port) as connection:
        await connection.send(GET + b"\r\n")
        assert (await connection.response())[0] == 200
        assert await connection.ended() == b""


async def test_a_connection_in_use_is_kept_beyond_the_idle_time() -> None:
    async with serving(idle_s=0.3, head_s=0.3) as port, connected(port) as connection:
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.0
        while loop.time() < until:
            await connection.send(GET + b"\r\n")
            assert (await connection.response())[0] == 200


async def test_a_call_that_takes_too_long_is_ended() -> None:
    backend = FakeBackend()

    async def wait_for_ever(_: Message) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    backend.answer = wait_for_ever
    async with serving(backend, call_timeout_s=0.1) as port, connected(port) as connection:
        await connection.send(GET + b"\r\n")
        status, _, body = await connection.response()
        assert (status, orjson.loads(body)["error_code"]) == (504, "DEADLINE_EXCEEDED")


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    is_cut_off = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2**25), "more_body": True})
        # Waits for the client to read, or to be gone.
        await send({"type": "http.response.body", "body": b""})
        is_cut_off.set()

    server = RestServer(flood, limits=HttpLimits(stall_s=0.2, sweep_s=0.05))
    await server.start("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(GET + b"\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await is_cut_off.wait()
    await server.stop(grace_s=0)


async def test_more_connections_than_allowed_are_refused() -> None:
    async with serving(connections_each=1) as port, connected(port) as first:
        await first.send(GET + b"\r\n")
        assert (await first.response())[0] == 200
        async with connected(port) as second:
            await second.refused(503, "TOO_MANY_CONNECTIONS")
        await first.send(GET + b"\r\n")
        assert (await first.response())[0] == 200


def test_connections_are_counted_by_address_and_some_are_kept_for_this_machine() -> None:
    trusted = (ip_network("192.0.2.0/24"),)
    peers = Peers(most=6, each=2, trusted=trusted)
    assert [peers.come("203.0.113.1") for _ in range(3)] == ["203.0.113.1", "203.0.113.1", None]
    # Whoever has one address of a /64 network has all of them.
    network = "2001:db8:1:2::/64"
    hosts = ("2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2::3")
    assert [peers.come(host) for host in hosts] == [network, network, None]
    # A proxy brings many callers.
    assert [peers.come("192.0.2.1") for _ in range(3)] == ["192.0.2.1", "192.0.2.1", None]
    # None is left, but for this machine.
    assert peers.come("198.51.100.1") is None
    assert [peers.come("127.0.0.1"), peers.come("::ffff:127.0.0.1")] == ["127.0.0.1"] * 2
    peers.go(network)
    peers.go("203.0.113.1")
    peers.go("203.0.113.1")
    assert peers.come("198.51.100.1") == "198.51.100.1"


async def test_an_upgrade_is_answered_as_http_and_ends_the_connection() -> None:
    upgrade = GET + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n"
    async with serving() as port, connected(port) as connection:
        await connection.send(upgrade)
        status, headers, _ = await connection.response()
        assert (status, headers["connection"]) == (200, "close")


async def test_answers_are_not_stored_and_not_guessed_at() -> None:
    async with serving() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for response in (
            await client.get("/things/a"),
            await client.get("/nothing"),
            await client.options("/things/a"),
        ):
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-content-type-options"] == "nosniff"

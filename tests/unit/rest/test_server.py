from __future__ import annotations

import asyncio

import httpx
import pytest
from google.protobuf.message import Message

from aitbc_server.rest.app import RestApp
from aitbc_server.rest.server import RestServer
from tests.unit.rest.serving import FakeBackend


async def test_a_taken_address_is_an_error_that_names_it() -> None:
    first = RestServer(RestApp(FakeBackend()))
    await first.start("127.0.0.1", 0)

    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{first.port}: Address already"):
        await RestServer(RestApp(FakeBackend())).start("127.0.0.1", first.port)
    await first.stop(grace_s=0)


async def test_an_unknown_host_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"cannot listen on nowhere\.invalid:1"):
        await RestServer(RestApp(FakeBackend())).start("nowhere.invalid", 1)


async def test_stopping_what_never_started_does_nothing() -> None:
    await RestServer(RestApp(FakeBackend())).stop(grace_s=0)


async def test_a_call_that_outlives_the_grace_is_told_that_the_server_drains() -> None:
    backend = FakeBackend()
    started = asyncio.Event()

    async def wait_for_ever(_: Message) -> Message:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    backend.answer = wait_for_ever
    server = RestServer(RestApp(backend))
    await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        call = asyncio.create_task(client.get("/things/a"))
        await asyncio.wait_for(started.wait(), timeout=5)
        await server.stop(grace_s=0)
        response = await call

    assert response.status_code == 503
    assert response.json()["error_code"] == "DRAINING"


@pytest.mark.parametrize("path", ["/things/a", "/things/a/events", "/things/nothing/here"])
async def test_a_client_of_http_1_0_is_sent_no_chunks(path: str) -> None:
    server = RestServer(RestApp(FakeBackend()))
    await server.start("127.0.0.1", 0)
    bodies = []
    for version in ("1.0", "1.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"GET {path} HTTP/{version}\r\nhost: x\r\nconnection: close\r\n\r\n"
        writer.write(head.encode())
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        told, _, body = answer.partition(b"\r\n\r\n")
        assert b"connection: close" in told.lower()
        if version == "1.0":
            assert b"transfer-encoding" not in told.lower()
        elif b"transfer-encoding: chunked" in told.lower():
            size, _, rest = body.partition(b"\r\n")
            body = rest[: int(size, 16)]
            assert rest[len(body) :] == b"\r\n0\r\n\r\n"
        bodies.append(body)
    await server.stop(grace_s=0)
    assert bodies[0] == bodies[1]
    assert bodies[0]

"""The proxy is as bad as it is told to be, and no worse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from chaos.proxy import Proxy

PATIENCE_S = 10
# Long enough for what must not arrive to have arrived.
WHILE_S = 0.1


class Echo:
    """A server that sends back what it gets, and counts who has left."""

    def __init__(self) -> None:
        self.left: asyncio.Queue[None] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1024):
                writer.write(chunk)
        except OSError:
            pass
        self.left.put_nowait(None)
        writer.transport.abort()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1], random.Random(1))
    await proxy.start()
    yield proxy
    await proxy.close()
    server.close()


class Caller:
    """A client of the echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def says(self, text: bytes) -> bytes:
        self._writer.write(text)
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(len(text))

    async def is_unheard(self) -> bool:
        self._writer.write(b"anybody?")
        try:
            async with asyncio.timeout(WHILE_S):
                await self.reader.read(1)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        return False

    async def is_cut(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def calling(proxy: Proxy) -> AsyncIterator[Caller]:
    """Gives a client that has not spoken yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def heard(proxy: Proxy) -> AsyncIterator[Caller]:
    """Gives a client that the server has answered."""
    async with calling(proxy) as caller:
        assert await caller.says(b"hello") == b"hello"
        yield caller


async def test_it_forwards(proxy: Proxy) -> None:
    text = random.Random(1).randbytes(300_000)
    async with heard(proxy) as caller:
        assert await caller.says(text) == text


async def test_a_cut_ends_both_ends(proxy: Proxy, echo: Echo) -> None:
    async with heard(proxy) as caller:
        assert proxy.cut() == 1
        assert await caller.is_cut()
        async with asyncio.timeout(PATIENCE_S):
            await echo.left.get()


async def test_a_black_hole_tells_nobody(proxy: Proxy, echo: Echo) -> None:
    async with heard(proxy) as caller:
        assert proxy.black_hole() == 1
        assert await caller.is_unheard()
        assert echo.left.empty()


async def test_half_open_tells_one_end(proxy: Proxy, echo: Echo) -> None:
    is_told = []
    for _ in range(12):
        async with heard(proxy) as caller:
            proxy.half_open()
            is_told.append(not await caller.is_unheard())
            proxy.cut()
    assert set(is_told) == {True, False}


async def test_a_stall_delivers_late(proxy: Proxy) -> None:
    async with heard(proxy) as caller:
        proxy.stall(3 * WHILE_S)
        assert await caller.is_unheard()
        async with asyncio.timeout(PATIENCE_S):
            assert await caller.reader.readexactly(8) == b"anybody?"


async def test_a_delay_is_kept(proxy: Proxy) -> None:
    async with heard(proxy) as caller:
        proxy.delay_s = WHILE_S
        began = asyncio.get_running_loop().time()
        await caller.says(b"late")
        assert asyncio.get_running_loop().time() - began >= 2 * WHILE_S


async def test_nobody_behind_it_is_a_cut() -> None:
    proxy = Proxy("127.0.0.1", 1, random.Random(1))
    await proxy.start()
    async with calling(proxy) as caller:
        assert await caller.is_cut()
    await proxy.close()

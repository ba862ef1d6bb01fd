"""A TCP proxy that forwards as badly as it is told to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 64 * 1024
# Until a connection that nothing goes through is forgotten, as a NAT would.
_FORGET_S = 60.0


class Proxy:
    """Stands before one address. What it does to a connection cannot be told from a bad network."""

    def __init__(self, host: str, port: int, rng: random.Random) -> None:
        self._target = (host, port)
        self._rng = rng
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        # Time that every chunk is late, either way.
        self.delay_s = 0.0
        self._is_partitioned = False

    async def start(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.cut()
        await asyncio.gather(*(link.ended.wait() for link in list(self._links)))

    def __len__(self) -> int:
        """Connections that are open."""
        return len(self._links)

    def cut(self, share: float = 1.0) -> int:
        """Ends connections at both ends."""
        return self._each(share, lambda link: link.cut())

    def black_hole(self, share: float = 1.0) -> int:
        """Forwards nothing more, either way; both ends stay open."""
        return self._each(share, lambda link: link.freeze())

    def partition(self) -> None:
        """Forwards nothing from now on, of those that connect later either."""
        self.black_hole()
        self._is_partitioned = True

    def half_open(self, share: float = 1.0) -> int:
        """Ends one end, which one by chance; the other is never told."""
        return self._each(share, lambda link: link.half_open(self._rng.random() < 0.5))

    def stall(self, seconds: float, share: float = 1.0) -> int:
        """Holds everything back for a while, then delivers it."""
        return self._each(share, lambda link: link.stall(seconds))

    def _each(self, share: float, do: Callable[[_Link], None]) -> int:
        chosen = [link for link in list(self._links) if self._rng.random() < share]
        for link in chosen:
            do(link)
        return len(chosen)

    async def _accept(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            far, onward = await asyncio.open_connection(*self._target)
        except OSError:
            answer.transport.abort()
            return
        link = _Link(self, answer, onward)
        self._links.add(link)
        if self._is_partitioned:
            link.freeze()
        try:
            await asyncio.gather(link.pump(near, onward), link.pump(far, answer))
        finally:
            link.cut()
            self._links.discard(link)
            link.ended.set()


class _Link:
    """One connection through the proxy: two sockets, and a pump each way."""

    def __init__(self, proxy: Proxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        # Cleared while nothing goes through.
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_frozen = False
        self.ended = asyncio.Event()

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Forwards one way until either end is gone."""
        with suppress(OSError):
            while chunk := await source.read(_CHUNK):
                if self._proxy.delay_s:
                    await asyncio.sleep(self._proxy.delay_s)
                await self._flows.wait()
                sink.write(chunk)
                await sink.drain()
            await self._flows.wait()
            if sink.can_write_eof() and not sink.is_closing():
                sink.write_eof()

    def cut(self) -> None:
        self._flows.set()
        for end in self._ends:
            end.transport.abort()

    def freeze(self) -> None:
        self._is_frozen = True
        self._flows.clear()
        asyncio.get_running_loop().call_later(_FORGET_S, self.cut)

    def half_open(self, drop_near: bool) -> None:
        self.freeze()
        self._ends[0 if drop_near else 1].transport.abort()

    def stall(self, seconds: float) -> None:
        self._flows.clear()
        asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._is_frozen:
            self._flows.set()

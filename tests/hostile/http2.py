"""HTTP/2 written by hand, for what no library of gRPC sends: messages that never end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 4
_FRAME = 16_384


class Connection:
    """A client's connection, which obeys the windows of the server."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._host, _, self._port = address.rpartition(":")
        self._next = 1
        self._initial = 65_535
        self._window = 65_535
        self._windows: dict[int, int] = {}
        self._opened = asyncio.Event()
        # Streams that the server has ended, with headers or a reset.
        self.ended: set[int] = set()
        self.is_closed = False

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._host, int(self._port), ssl=self._tls
        )
        self._writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        self._writer.close()

    def call(self, path: str, **metadata: str) -> int:
        """Begins a gRPC call; returns its stream."""
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._initial
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "victim",
            "content-type": "application/grpc",
            "te": "trailers",
            **{name.replace("_", "-"): value for name, value in metadata.items()},
        }
        block = b"".join(_literal(name, value) for name, value in headers.items())
        self._writer.write(_frame(_HEADERS, _END_HEADERS, stream, block))
        return stream

    async def send(self, stream: int, data: bytes) -> int:
        """Sends as much as the server takes; returns how much that was when it was over."""
        sent = 0
        while sent < len(data) and stream not in self.ended and not self.is_closed:
            room = min(self._window, self._windows[stream], _FRAME, len(data) - sent)
            if room <= 0:
                self._opened.clear()
                await self._opened.wait()
                continue
            self._window -= room
            self._windows[stream] -= room
            self._writer.write(_frame(_DATA, 0, stream, data[sent : sent + room]))
            sent += room
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
        return sent

    def end(self, stream: int) -> None:
        """Says that nothing more is sent."""
        self._writer.write(_frame(_DATA, _END_STREAM, stream, b""))

    async def until_ended(self, count: int) -> None:
        """Returns when the server has ended so many streams."""
        while len(self.ended) < count and not self.is_closed:
            self._opened.clear()
            await self._opened.wait()

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                length = int.from_bytes(head[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                self._hear(kind, flags, stream, await self._reader.readexactly(length))
                self._opened.set()
        self.is_closed = True
        self._opened.set()

    def _hear(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for key, value in struct.iter_unpack(">HI", body):
                if key == _INITIAL_WINDOW:
                    for known in self._windows:
                        self._windows[known] += value - self._initial
                    self._initial = value
            self._writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._writer.write(_frame(_PING, _ACK, 0, body))
        elif kind == _WINDOW:
            more = int.from_bytes(body, "big")
            if stream:
                self._windows[stream] = self._windows.get(stream, 0) + more
            else:
                self._window += more
        elif kind == _RESET or (kind in {_HEADERS, _DATA} and flags & _END_STREAM):
            self.ended.add(stream)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _literal(name: str, value: str) -> bytes:
    # Without indexing, and without Huffman's code.
    return b"\x00" + _short(name) + _short(value)


def _short(text: str) -> bytes:
    assert len(text) < 127
    return bytes((len(text),)) + text.encode()

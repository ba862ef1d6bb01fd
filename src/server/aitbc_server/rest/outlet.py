"""What a connection sends: all that is written in one turn of the event loop goes out as one.

uvloop calls the system for each write, and a response is two of them: its head and its body.
"""

from __future__ import annotations

import asyncio
from typing import Any

# Bytes that wait for the end of a turn at most: that a client does not read is noticed when the
# transport is given what it cannot send.
_MOST_HELD = 16 * 1024


class Outlet(asyncio.Transport):
    """A transport in front of another one."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> None:
        """Sends data at the end of this turn, or at once what is much."""
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _MOST_HELD:
            self._flush()

    def close(self) -> None:
        """Closes the connection when all that was written is sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._parts, self._size = [], 0
        self._transport.abort()

    def is_closing(self) -> bool:
        """Says whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Returns how many bytes wait for the client to read, beside those of this turn."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns what the transport knows of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Takes nothing from the client for a while."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Takes what the client sends again."""
        self._transport.resume_reading()

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        # The client may have gone since they were written, and uvloop raises for who writes then.
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts) if len(parts) > 1 else parts[0])

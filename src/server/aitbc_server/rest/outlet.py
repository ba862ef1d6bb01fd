"""What a connection sends: all that is written in one turn of the event loop goes out as one.

uvloop calls the system for each write, and a response is two of them: its head and its body.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Outlet(asyncio.Transport):
    """A transport in front of another one."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:
        """Sends data at the end of this turn."""
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Closes the connection when all that was written is sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._parts.clear()
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
        parts, self._parts = self._parts, []
        # The client may have gone since they were written, and uvloop raises for who writes then.
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts) if len(parts) > 1 else parts[0])

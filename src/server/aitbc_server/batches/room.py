"""How many jobs of lines are in memory at once: they may be many times as large as their lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ParamSpec

from aitbc.v1 import jobs_pb2

_Asked = ParamSpec("_Asked")
_Jobs = Sequence[jobs_pb2.SubmitJobRequest]


class Room:
    """The jobs that are made and not stored yet."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: from so many on, no more are made."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def made(
        self, make: Callable[_Asked, Awaitable[_Jobs]], *args: _Asked.args, **kwargs: _Asked.kwargs
    ) -> AsyncIterator[_Jobs]:
        """Gives the jobs of a line, which are made when there is room: of one line at a time."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._bytes < self._most_bytes)
            jobs = await make(*args, **kwargs)
            size = sum(job.ByteSize() for job in jobs)
            self._bytes += size
        try:
            yield jobs
        finally:
            self._bytes -= size
            async with self._freed:
                self._freed.notify_all()

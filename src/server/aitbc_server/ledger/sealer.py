"""Seals a block whenever receipts have waited long enough, and tells who waits for blocks."""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Protocol

import structlog

from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.domain.receipts import BlockRecord
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)
# How soon those who wait learn of a block that was sealed because many receipts came.
_LOOK_S = 1.0


class Ledger(Protocol):
    """What the sealer needs of the ledger."""

    def seal(self) -> Future[BlockRecord | None]:
        """Seals what no block holds; returns the block, or None when there was nothing."""
        ...

    def last_block(self) -> Future[BlockRecord | None]:
        """Returns the newest block."""
        ...


class Sealer:
    """A task that seals every so many seconds."""

    def __init__(self, ledger: Ledger, *, every_s: float) -> None:
        self._ledger = ledger
        self._every_s = every_s
        self._height = -1
        self._grown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Set when no more blocks are told of.
        self.is_closed = False

    def start(self, supervisor: Supervisor) -> None:
        """Begins; what an earlier process left unsealed goes first."""
        self._task = supervisor.keep("ledger", self._run)

    async def wait_beyond(self, height: int) -> None:
        """Returns when there is a block above the height, or none will be told of any more."""
        while self._height <= height and not self.is_closed:
            await self._grown.wait()

    def release(self) -> None:
        """Lets every `wait_beyond` return: the process is about to end."""
        self.is_closed = True
        self._grown.set()

    async def stop(self) -> None:
        """Ends, and seals what is left. May be repeated."""
        self.release()
        task, self._task = self._task, None
        if task is not None:
            await end([task])
            try:
                await self._seal()
            except Exception as error:
                # Whatever it is, the receipts are safe, and the next start seals them.
                _log.error("ledger.not_sealed", exc_info=error)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if loop.time() >= due:
                due = loop.time() + self._every_s
                await self._seal()
            await self._look()
            await asyncio.sleep(min(_LOOK_S, self._every_s))

    async def _seal(self) -> None:
        try:
            block = await self._ledger.seal()
        except CoordinatorError as error:
            # The receipts are safe, and the next block takes them.
            _log.error("ledger.not_sealed", error=type(error).__name__, problem=str(error))
            return
        if block is not None:
            _log.info("ledger.sealed", height=block.height, tree_size=block.tree_size)

    async def _look(self) -> None:
        try:
            block = await self._ledger.last_block()
        except CoordinatorError:
            return
        if block is not None and block.height > self._height:
            self._height = block.height
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()

"""Runs operations on a thread of its own, in batches: the group commit.

While one batch runs, the operations that arrive become the next one; the time of the last fsync is
the window, so no timer is needed, and an idle store answers at once.

Operations of a batch have nothing in common but the thread. Whatever one raises, only its caller is
told of it, with an exception of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import structlog

from aitbc_server.domain.errors import StorageBusy, StorageUnavailable

_log = structlog.get_logger(__name__)

# Runs operations in order and returns for each its result or its exception, and raises nothing.
# What would make too much of a batch is left for the next one. On the thread.
Run = Callable[[Sequence[Any]], Sequence[Any]]
# Takes an operation's result or exception, on the loop.
Then = Callable[[Any], None]


class OperationBroke(RuntimeError):
    """An operation raised what a future cannot hold, or its batch ended without an answer."""


class Later(Enum):
    """What `run` says of an operation that it left for the next batch."""

    LATER = "later"


LATER = Later.LATER


class _Entry(NamedTuple):
    operation: Any
    future: asyncio.Future[Any]
    then: Then | None
    size: int


class BatchThread:
    """A thread that runs operations in batches. Use from one event loop.

    Not an executor: its futures and their locks cost the loop more than all the rest of a batch.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        most: int = 1024,
        waiting: int = 100_000,
        waiting_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """`most` bounds a batch, the others the operations that may wait for theirs."""
        self._run = run
        self._most = most
        self._limit = waiting
        self._limit_bytes = waiting_bytes
        self._loop = asyncio.get_running_loop()
        # None ends the thread. It is a daemon, for an owner that ends without `close`.
        self._batches: SimpleQueue[Sequence[Any] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        # The batch that is being run, and since when.
        self._batch: Sequence[_Entry] = ()
        self._began = 0.0
        self._waiting: list[_Entry] = []
        self._waiting_bytes = 0
        self._is_running = False
        self._is_scheduled = False
        # Told of each batch: its size, its seconds, and whether it could be run.
        self.watchers: list[Callable[[int, float, bool], None]] = []
        self._idle = asyncio.Event()
        self._idle.set()

    def put(
        self, operation: Any, then: Then | None = None, *, size: int = 0
    ) -> asyncio.Future[Any]:
        """Queues an operation of `size` bytes; the future has its result. Raises StorageBusy.

        `then` is called with it first, also when whoever waits for the future has gone.
        """
        # One that is larger than all that may wait must have its turn too.
        has_room = not self._waiting_bytes or self._waiting_bytes + size <= self._limit_bytes
        if len(self._waiting) >= self._limit or not has_room:
            raise StorageBusy(retry_after_s=1)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(_Entry(operation, future, then, size))
        self._waiting_bytes += size
        if not self._is_running and not self._is_scheduled:
            # At the end of this turn of the loop, so that all its operations share the batch.
            self._is_scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._start)
        return future

    async def close(self) -> None:
        """Runs what waits, then ends the thread."""
        await self._idle.wait()
        self._batches.put(None)
        self._thread.join()

    def _start(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._is_scheduled, self._is_running = False, True
        self._waiting_bytes -= sum(entry.size for entry in batch)
        self._batch, self._began = batch, self._loop.time()
        self._batches.put([entry.operation for entry in batch])

    def _serve(self) -> None:
        """Runs batch after batch. On the thread."""
        while (operations := self._batches.get()) is not None:
            self._loop.call_soon_threadsafe(self._finish, self._results(operations))

    def _results(self, operations: Sequence[Any]) -> Sequence[Any]:
        # `run` raises nothing. Should it do so, nobody knows what it had done, and nobody may wait
        # for ever.
        try:
            results = self._run(operations)
        except BaseException as error:
            _log.exception("store.batch_broke", operations=len(operations))
            return [_broke(error) for _ in operations]
        if len(results) != len(operations):
            _log.error("store.batch_broke", operations=len(operations), results=len(results))
            return [OperationBroke("the batch has no answer for it") for _ in operations]
        return results

    def _finish(self, results: Sequence[Any]) -> None:
        batch, seconds = self._batch, self._loop.time() - self._began
        self._is_running = False
        left = [entry for entry, result in zip(batch, results, strict=True) if result is LATER]
        if left:
            self._waiting[:0] = left
            self._waiting_bytes += sum(entry.size for entry in left)
        if self._waiting:
            # Before the answers: the disk works while they are given.
            self._start()
        else:
            self._idle.set()
        was_run = True
        for (_, future, then, _), result in zip(batch, results, strict=True):
            if result is LATER:
                continue
            if then is not None:
                self._call(then, result)
            if isinstance(result, BaseException):
                was_run &= not isinstance(result, StorageUnavailable)
                if not future.done():
                    future.set_exception(_held(result))
            elif not future.done():
                future.set_result(result)
        for watch in self.watchers:
            self._call(watch, len(batch), seconds, was_run)

    def _call(self, told: Callable[..., None], *arguments: Any) -> None:
        # One that raises must not keep the others from their answers.
        try:
            told(*arguments)
        except Exception:
            _log.exception("store.callback_broke", callback=getattr(told, "__qualname__", None))


def _held(error: BaseException) -> Exception:
    """Returns an exception that a future can hold, and that ends nobody but who awaits it."""
    is_plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
    return error if is_plain else _broke(error)  # type: ignore[return-value]  # it is plain


def _broke(error: BaseException) -> OperationBroke:
    broke = OperationBroke(f"{type(error).__name__}: {error}")
    broke.__cause__ = error
    return broke

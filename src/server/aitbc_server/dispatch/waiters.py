"""The calls that wait for something to be stored."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Iterable, Sequence

from aitbc_server.domain.errors import StorageUnavailable, TooManyWaiting
from aitbc_server.domain.jobs import Begin, Completion, Ending

# Calls that wait for the end of a job at once: each holds a connection's memory for up to a minute.
MOST_WAITING = 10_000

Ends = Sequence[Completion] | Sequence[Ending]


class Waiters:
    """Futures of calls, by what they wait for. A call that goes away leaves nothing behind."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._final: dict[str, list[Future[None]]] = {}
        # Calls in `final`.
        self._waiting = 0
        # By lease id.
        self._begin: dict[str, Future[StorageUnavailable | None]] = {}
        self._end: dict[str, list[Future[bool | StorageUnavailable]]] = {}

    async def final(self, job_id: str, timeout_s: float) -> None:
        """Returns when the job is final, or after the timeout. Raises TooManyWaiting."""
        if self._waiting >= MOST_WAITING:
            raise TooManyWaiting(retry_after_s=1)
        self._waiting += 1
        future: Future[None] = self._loop.create_future()
        self._final.setdefault(job_id, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
            waiters = self._final.get(job_id)
            if waiters and future in waiters:
                waiters.remove(future)
                if not waiters:
                    del self._final[job_id]

    async def begun(self, lease_id: str) -> None:
        """Returns when the lease is stored. Raises StorageUnavailable when it could not be."""
        future = self._begin[lease_id] = self._loop.create_future()
        error = await asyncio.shield(future)
        if error is not None:
            # One for each call: an exception keeps the traces of all that raise it.
            raise type(error)(str(error), retry_after_s=error.retry_after_s) from None

    async def ended(self, lease_id: str) -> bool:
        """Returns, when the lease has ended, whether it was still its miner's.

        Raises StorageUnavailable when that is not stored yet.
        """
        future: Future[bool | StorageUnavailable] = self._loop.create_future()
        self._end.setdefault(lease_id, []).append(future)
        answer = await asyncio.shield(future)
        if isinstance(answer, StorageUnavailable):
            raise answer
        return answer

    def release(self) -> None:
        """Lets every `final` return: the process is about to end."""
        self.tell_final(list(self._final))

    def tell_final(self, job_ids: Iterable[str]) -> None:
        """Lets those return that wait for these jobs."""
        for job_id in job_ids:
            for waiter in self._final.pop(job_id, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def tell_begun(self, begins: Sequence[Begin], error: StorageUnavailable | None = None) -> None:
        """Lets those return that wait for these leases to begin."""
        for begin in begins:
            waiter = self._begin.pop(begin.lease_id, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(error)

    def tell_ended(self, ends: Ends, done: frozenset[str]) -> None:
        """Lets those return that wait for these leases to end. `done`: jobs it applied to."""
        for end in ends:
            self._answer_ended(end.lease_id, end.job_id in done)

    def tell_unavailable(self, ends: Ends) -> None:
        """Lets those return that wait for these leases to end: it will take a while."""
        for end in ends:
            self._answer_ended(end.lease_id, StorageUnavailable(retry_after_s=1))

    def _answer_ended(self, lease_id: str | None, answer: bool | StorageUnavailable) -> None:
        for waiter in self._end.pop(lease_id or "", ()):
            if not waiter.done():
                waiter.set_result(answer)

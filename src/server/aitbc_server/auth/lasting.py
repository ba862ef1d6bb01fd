"""Calls that last longer than their keys: streams and long waits end when their key does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from aitbc_server.domain.errors import InvalidApiKey, StorageUnavailable
from aitbc_server.supervisor import Supervisor, end

T = TypeVar("T")

# How often keys with such calls are looked at: each costs a microsecond.
_EVERY_S = 0.25
# Ends a call, for this reason.
Finish = Callable[[InvalidApiKey], None]


class _Call:
    """One call, and the task that waits for what comes next of it, while one does.

    Only that wait is ever cancelled: never a write, which gRPC would not survive.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[object] | None = None
        self.end: InvalidApiKey | None = None

    def finish(self, why: InvalidApiKey) -> None:
        """Ends the call: at once, or when what it has is written."""
        if self.end is None:
            self.end = why
            if self.task is not None:
                self.task.cancel()

    async def next(self, coming: Awaitable[T]) -> T:
        """Waits for what comes. Raises InvalidApiKey when the key ends meanwhile."""
        self.task = asyncio.current_task()
        try:
            return await coming
        except asyncio.CancelledError:
            # One that came from elsewhere as well stays a cancellation.
            if self.end is not None and self.task is not None and self.task.uncancel() == 0:
                raise self.end from None
            raise
        finally:
            self.task = None


class Lasting:
    """Ends calls that last when their keys are no longer valid. Use from one event loop."""

    def __init__(self, check_live: Callable[[str], object]) -> None:
        """`check_live` raises InvalidApiKey for the id of a key that is no longer valid."""
        self._check_live = check_live
        self._calls: dict[str, set[Finish]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Begins to look at keys."""
        self._task = supervisor.keep("ended-keys", self._look_each)

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            await end([self._task])

    async def stream(self, messages: AsyncGenerator[T, None], key_id: str) -> AsyncGenerator[T]:
        """Yields the messages for as long as the key is valid. Raises InvalidApiKey then."""
        async with aclosing(messages):
            with self._call(key_id) as call:
                while call.end is None:
                    try:
                        message = await call.next(anext(messages))
                    except StopAsyncIteration:
                        return
                    yield message
                raise call.end

    async def answer(self, coming: Awaitable[T], key_id: str | None) -> T:
        """Waits for the answer for as long as the key is valid. Raises InvalidApiKey then."""
        if key_id is None:
            return await coming
        with self._call(key_id) as call:
            return await call.next(coming)

    @contextmanager
    def told(self, key_id: str | None, finish: Finish) -> Iterator[None]:
        """Has a call end itself when its key is no longer valid, while it lasts."""
        if key_id is None:
            yield
            return
        self._calls.setdefault(key_id, set()).add(finish)
        try:
            yield
        finally:
            calls = self._calls[key_id]
            calls.discard(finish)
            if not calls:
                del self._calls[key_id]

    @contextmanager
    def _call(self, key_id: str) -> Iterator[_Call]:
        call = _Call()
        with self.told(key_id, call.finish):
            yield call

    async def _look_each(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self._look()

    def _look(self) -> None:
        try:
            for key_id in list(self._calls):
                try:
                    self._check_live(key_id)
                except InvalidApiKey as why:
                    for finish in list(self._calls[key_id]):
                        finish(why)
        except StorageUnavailable:
            pass  # logged where it was raised; the next look tries again

"""Ends a call whose client has gone, or that takes too long."""

from __future__ import annotations

import asyncio
from typing import cast

from aitbc_server.alarms import Alarms
from aitbc_server.rest.asgi import Receive
from aitbc_server.rest.errors import CallTimeout


class ClientGone(Exception):
    """The client closed its connection, so nobody waits for a response."""


class ClientWatch:
    """Cancels the current task when its client goes, or its time is over, during a long call.

    Short calls are over before it begins: an alarm costs less than a task for each call.
    """

    def __init__(
        self,
        receive: Receive,
        after_s: float,
        limit_s: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        """Begins to watch after some seconds, and lets the call take no longer than the limit.

        `loop` is the running one, where the caller knows it: to ask for it calls the system.
        `alarms` ring after that time, where there are some.
        """
        self._limit_s = limit_s
        loop = loop or asyncio.get_running_loop()
        # Always there: an ASGI server runs each request as a task.
        self._task = cast("asyncio.Task[None]", asyncio.current_task(loop))
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        # Why the call was ended. No error itself, which would lead back here by its traceback.
        self._end: type[Exception] | None = None
        self._alarms = alarms
        self._timer: asyncio.TimerHandle | None = None
        if alarms is None:
            self._timer = loop.call_later(after_s, self._start)
        else:
            alarms.set(self, self._start)

    def close(self) -> None:
        """Watches no longer."""
        if self._alarms is not None:
            self._alarms.off(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def raise_if_ended(self) -> None:
        """Raises ClientGone or CallTimeout for a cancellation that came from here."""
        # One that came from elsewhere as well, such as a shutdown, stays a cancellation.
        if self._end is not None and self._task.uncancel() == 0:
            raise self._end from None

    def _start(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                while (await self._receive())["type"] != "http.disconnect":
                    pass  # what is left of a body that nobody reads
            self._end = ClientGone
        except TimeoutError:
            self._end = CallTimeout
        self._task.cancel()

"""Looks after the tasks that serve for the life of the process.

What nobody foresaw ends one round of a task and never the task: it is logged with its trace,
counted, told on the health page, and the task begins anew after a pause. What a task foresees, such
as a storage that cannot be reached, it handles itself.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

import structlog

_log = structlog.get_logger(__name__)

# Seconds until a task begins anew: twice as many after each fault, up to the most. After a run that
# was longer than that, as few as at first.
_FIRST_PAUSE_S = 1.0
_MOST_PAUSE_S = 60.0
# How long the health page tells of a fault.
_TOLD_S = 600.0

Work = Callable[[], Coroutine[Any, Any, None]]


class TaskEnded(RuntimeError):
    """A task ended that serves for the life of the process."""


class _Fault(NamedTuple):
    at: float
    kind: str


class Supervisor:
    """All such tasks of a process. Use from one event loop.

    Tasks of one name are told of as one, so names are few.
    """

    def __init__(self) -> None:
        # How often work broke, by the name of its task.
        self.faults: Counter[str] = Counter()
        self._last: dict[str, _Fault] = {}

    def keep(self, name: str, work: Work) -> Task[None]:
        """Does the work until its task is cancelled; it is not to return by itself."""

        async def kept() -> None:
            await work()
            raise TaskEnded(f"{name} returned")

        return asyncio.create_task(self._serve(name, kept), name=name)

    def finish(self, name: str, work: Work) -> Task[None]:
        """Does the work until it returns."""
        return asyncio.create_task(self._serve(name, work), name=name)

    def broke(self, name: str, error: BaseException) -> None:
        """Notes what nobody foresaw, also where it is no task that goes on after it."""
        self.faults[name] += 1
        self._last[name] = _Fault(asyncio.get_running_loop().time(), type(error).__name__)
        _log.error("task.broke", task=name, faults=self.faults[name], exc_info=error)

    def warnings(self) -> dict[str, str]:
        """Returns what broke of late, by task, in words for everybody."""
        now = asyncio.get_running_loop().time()
        return {
            name: f"broke with {fault.kind} {now - fault.at:.0f} s ago, "
            f"{self.faults[name]} times since the start"
            for name, fault in self._last.items()
            if now - fault.at < _TOLD_S
        }

    async def _serve(self, name: str, work: Work) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began = loop.time()
            try:
                await work()
            except asyncio.CancelledError as error:
                # Of the task, or of something that it awaited?
                if _is_cancelled():
                    raise
                self.broke(name, error)
            except Exception as error:
                self.broke(name, error)
            else:
                return
            if loop.time() - began > _MOST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def end(tasks: Iterable[Task[None]]) -> None:
    """Cancels tasks, and returns when they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)

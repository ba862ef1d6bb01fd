"""Watches how long turns of the event loop take: whoever takes long makes all others wait."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import NamedTuple

import structlog

_log = structlog.get_logger(__name__)

# Turns that take longer are told, unless something else is said.
LOOP_WARN_S = 0.25
# From one look to the next: a turn is measured that much too short at most.
_EVERY_S = 0.02
# How long the longest turn is remembered; twice that at most.
_REMEMBERED_S = 60.0
_PACKAGE = "aitbc_server."
_REQUEST_ID = "x-request-id"


class _Culprit(NamedTuple):
    """What the loop was at when it was late."""

    # When the loop should have been here.
    due: float
    request_id: str
    # Function of ours, such as `aitbc_server.rest.route.request`.
    where: str


class LoopWatch:
    """Measures the turns of the loop that starts it; logs those that take too long.

    A timer on the loop tells how late it is. Once it is late, a thread looks at what the loop runs.
    """

    def __init__(self, warn_s: float) -> None:
        """`warn_s`: turns that take longer are counted and logged."""
        # Turns that took too long.
        self.stalls = 0
        self._warn_s = warn_s
        self._due = 0.0
        self._longest = 0.0
        self._longest_before = 0.0
        self._renewed = 0.0
        self._culprit: _Culprit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch the running loop."""
        loop = asyncio.get_running_loop()
        self._renewed = time.monotonic()
        self._next(loop)
        self._watcher = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="loop-watch", daemon=True
        )
        self._watcher.start()

    def stop(self) -> None:
        """Watches no longer."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.join()

    @property
    def longest_s(self) -> float:
        """Longest turn of the last minute or two."""
        return max(self._longest, self._longest_before)

    # On the loop

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = time.monotonic() + _EVERY_S
        self._timer = loop.call_later(_EVERY_S, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        late_s = now - self._due
        if now - self._renewed > _REMEMBERED_S:
            self._longest_before, self._longest, self._renewed = self._longest, 0.0, now
        if late_s > self._longest:
            self._longest = late_s
        if late_s > self._warn_s:
            self._tell(late_s)
        self._next(loop)

    def _tell(self, late_s: float) -> None:
        self.stalls += 1
        culprit = self._culprit
        found = culprit is not None and culprit.due == self._due
        _log.warning(
            "loop.stalled",
            seconds=round(late_s, 3),
            request_id=culprit.request_id if culprit and found else "",
            where=culprit.where if culprit and found else "",
        )

    # On the thread

    def _watch(self, loop_thread: int) -> None:
        while not self._stopped.wait(self._warn_s / 4):
            due = self._due
            is_late = time.monotonic() - due > self._warn_s / 2
            if is_late and (self._culprit is None or self._culprit.due != due):
                frame = sys._current_frames().get(loop_thread)
                self._culprit = _Culprit(due, *_found_in(frame))


def _found_in(frame: FrameType | None) -> tuple[str, str]:
    """Returns the id of the call that a stack of frames is of, and the innermost function of ours.

    The context of a task cannot be read from another thread, but the headers or metadata that its
    outermost coroutine holds can.
    """
    request_id = where = ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_PACKAGE):
            where = where or f"{module}.{frame.f_code.co_name}"
            for held in frame.f_locals.values():
                if type(held) is dict and type(found := held.get(_REQUEST_ID)) is str:
                    request_id = found
        frame = frame.f_back
    return request_id, where

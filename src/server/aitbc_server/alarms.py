"""Alarms of a fixed time, such as each call has: one timer for all of them.

A timer of the event loop costs a call more than all else that is done to bound it. Alarms that are
set with the same delay ring in the order in which they were set, so the first of them is enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context

import structlog

_log = structlog.get_logger(__name__)

Ring = Callable[[], object]

# The timers of a loop count milliseconds.
_LEAST_S = 0.001


# When it is due, and what it does then. A plain tuple: each call makes one.
_Alarm = tuple[float, Ring]


class Alarms:
    """Rings for what is not over in time."""

    def __init__(self, after_s: float) -> None:
        """`after_s`: from when an alarm is set until it rings, or a little later."""
        self._after_s = after_s
        # By whose they are, the first first.
        self._set: dict[object, _Alarm] = {}
        self._has_timer = False

    def set(self, owner: object, ring: Ring) -> None:
        """Has `ring` called when the time is over, unless the alarm of the owner is off by then."""
        self._set[owner] = (time.monotonic() + self._after_s, ring)
        if not self._has_timer:
            self._wait(self._after_s)

    def off(self, owner: object) -> None:
        """Takes the alarm of an owner back, if it has not rung."""
        self._set.pop(owner, None)

    def _look(self) -> None:
        self._has_timer = False
        now, over = time.monotonic(), []
        for owner, alarm in self._set.items():
            if alarm[0] > now:
                break
            over.append((owner, alarm))
        for owner, alarm in over:
            # One may have taken back another.
            if self._set.get(owner) is alarm:
                del self._set[owner]
                self._ring(alarm)
        if self._set and not self._has_timer:
            self._wait(next(iter(self._set.values()))[0] - now)

    def _ring(self, alarm: _Alarm) -> None:
        _, ring = alarm
        try:
            ring()
        except Exception:
            # The others ring all the same.
            _log.exception("alarm.broke")

    def _wait(self, seconds: float) -> None:
        self._has_timer = True
        # In a context of its own: it is nobody's.
        loop = asyncio.get_running_loop()
        loop.call_later(max(seconds, _LEAST_S), self._look, context=Context())

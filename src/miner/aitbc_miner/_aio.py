"""asyncio plumbing."""

from __future__ import annotations

import asyncio


class Alarm:
    """Wakes one waiter, at once or after a while, whichever comes first."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        # When the timer rings. uvloop's handle of a very short one does not say.
        self._rings_at = 0.0

    def ring(self) -> None:
        """Wakes the waiter, or the next one when nobody waits now."""
        self._event.set()

    def ring_in(self, delay_s: float) -> None:
        """Rings after the delay, unless it is set to ring before."""
        loop = asyncio.get_running_loop()
        when = loop.time() + delay_s
        if self._timer is not None:
            if self._rings_at <= when:
                return
            self._timer.cancel()
        self._rings_at = when
        self._timer = loop.call_at(when, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._event.set()

    async def wait(self) -> None:
        """Returns when it rings or has rung since the last wait."""
        await self._event.wait()
        self._event.clear()


async def first_of(*events: asyncio.Event, timeout_s: float | None = None) -> bool:
    """Waits for any of the events; returns False when the time is over before."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()

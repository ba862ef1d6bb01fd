"""The deliveries to one webhook, apart from all others: a slow receiver delays only its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol

import structlog

from aitbc_server.domain.clock import Clock
from aitbc_server.domain.webhooks import Delivery, Webhook
from aitbc_server.webhooks.answer import Answer
from aitbc_server.webhooks.attempts import pause_s
from aitbc_server.webhooks.outbox import Outbox

_log = structlog.get_logger(__name__)

# Deliveries read from the outbox at once.
_READ = 32
# Seconds until a webhook is tried again whose delivery failed here, and not there.
_BROKEN_S = 5.0


class Carrier(Protocol):
    """What a lane needs of its courier."""

    async def deliver(self, webhook: Webhook, delivery: Delivery) -> Answer:
        """Makes an attempt and stores what came of it."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs an attempt that the courier waits for when it stops."""
        ...


class Lane:
    """Sends what waits for one webhook, as it becomes due.

    How many requests run at once begins with one, doubles with each success, and is one again after
    a failure: a receiver that does not answer holds one connection.
    """

    def __init__(
        self, webhook_id: str, outbox: Outbox, carrier: Carrier, clock: Clock, *, most: int
    ) -> None:
        self._webhook_id = webhook_id
        self._outbox = outbox
        self._carrier = carrier
        self._clock = clock
        self._most = most
        self._window = 1
        # Read from the outbox and not begun; the earliest first.
        self._queue: deque[Delivery] = deque()
        self._webhook: Webhook | None = None
        self._running: set[int] = set()
        # Wall time before which the receiver wants nothing.
        self._paused_until_us = 0
        self._changed = asyncio.Event()

    def wake(self, *, anew: bool = False) -> None:
        """Has the lane look again; `anew` also forgets what it had read of the webhook."""
        if anew:
            self._queue.clear()
        self._changed.set()

    async def run(self) -> None:
        """Sends until nothing waits. Raises StorageUnavailable."""
        while True:
            self._changed.clear()
            wait_s = await self._fill()
            if wait_s is None and not self._running and not self._changed.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _fill(self) -> float | None:
        """Begins what is due and has room; returns seconds until more is, if that is known."""
        if len(self._running) >= self._window:
            return None
        if not self._queue:
            self._webhook, found = await self._outbox.due(
                self._webhook_id, _READ + len(self._running)
            )
            self._queue.extend(one for one in found if one.number not in self._running)
        if self._webhook is None or not self._webhook.is_enabled:
            self._queue.clear()
            return None
        while self._queue and len(self._running) < self._window:
            due_us = max(self._queue[0].next_us or 0, self._paused_until_us)
            wait_s = (due_us - self._clock.wall_us()) / 1e6
            if wait_s > 0:
                # Something earlier may come meanwhile: then the lane is woken, and reads anew.
                self._queue.clear()
                return wait_s
            self._begin(self._webhook, self._queue.popleft())
        return None

    def _begin(self, webhook: Webhook, delivery: Delivery) -> None:
        self._running.add(delivery.number)
        self._carrier.spawn(self._deliver(webhook, delivery))

    async def _deliver(self, webhook: Webhook, delivery: Delivery) -> None:
        try:
            answer = await self._carrier.deliver(webhook, delivery)
            if answer.error:
                self._window = 1
                # It may have disabled the webhook.
                self._queue.clear()
            else:
                self._window = min(2 * self._window, self._most)
            if seconds := pause_s(answer):
                self._pause(seconds)
        except Exception as error:
            # It stays in the outbox, and is not tried again at once: what nobody foresaw may last.
            _log.error(
                "webhook.delivery_broke",
                webhook_id=self._webhook_id,
                delivery_id=delivery.delivery_id,
                error=type(error).__name__,
            )
            self._pause(_BROKEN_S)
            self._queue.clear()
        finally:
            self._running.discard(delivery.number)
            self._changed.set()

    def _pause(self, seconds: float) -> None:
        self._paused_until_us = self._clock.wall_us() + int(seconds * 1e6)

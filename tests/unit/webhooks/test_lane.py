"""One webhook's lane, with an outbox in memory."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from aitbc_server.clock import SystemClock
from aitbc_server.domain.webhooks import Delivery, DeliveryStatus, Webhook
from aitbc_server.webhooks import lane as lanes
from aitbc_server.webhooks.answer import Answer
from aitbc_server.webhooks.lane import Lane
from aitbc_server.webhooks.outbox import Outbox

_WEBHOOK = Webhook(
    webhook_id="w", owner="o", url="http://x/", events=("job.completed",), created_us=0
)


class _Outbox:
    """Holds deliveries until they are delivered."""

    def __init__(self, count: int) -> None:
        self.waiting = {
            number: Delivery(
                number=number,
                webhook_id="w",
                event="job.completed",
                ulid="u",
                created_us=0,
                status=DeliveryStatus.PENDING,
                next_us=0,
            )
            for number in range(count)
        }
        self.asked = 0

    def due(self, webhook_id: str, limit: int) -> Future[tuple[Webhook | None, list[Delivery]]]:
        self.asked += 1
        future: Future[tuple[Webhook | None, list[Delivery]]] = asyncio.Future()
        future.set_result((_WEBHOOK, list(self.waiting.values())[:limit]))
        return future


class _Carrier:
    """Delivers, once it was broken so many times."""

    def __init__(self, outbox: _Outbox, broken: int) -> None:
        self._outbox = outbox
        self._broken = broken
        self.calls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def deliver(self, webhook: Webhook, delivery: Delivery) -> Answer:
        self.calls += 1
        if self.calls <= self._broken:
            raise RuntimeError("nobody foresaw this")
        del self._outbox.waiting[delivery.number]
        return Answer(duration_ms=1, status_code=204)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))


async def test_a_lane_ends_when_all_is_delivered() -> None:
    outbox = _Outbox(100)
    carrier = _Carrier(outbox, broken=0)
    await Lane("w", cast("Outbox", outbox), carrier, SystemClock(), most=4).run()
    assert (carrier.calls, outbox.waiting) == (100, {})


async def test_what_breaks_here_is_tried_again_after_a_while_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "_BROKEN_S", 0.05)
    outbox = _Outbox(3)
    carrier = _Carrier(outbox, broken=2)
    began = asyncio.get_running_loop().time()
    await Lane("w", cast("Outbox", outbox), carrier, SystemClock(), most=4).run()
    assert (carrier.calls, outbox.waiting) == (5, {})
    assert asyncio.get_running_loop().time() - began >= 0.1

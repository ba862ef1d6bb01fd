"""Delivers what is in the outbox: one lane for each webhook for which something waits.

Nothing is claimed before it is sent, because one process serves a database: what a crash interrupts
is still pending when the next one starts, and is sent again under the same id.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from aitbc.v1.receipts_pb2 import Receipt
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import JobRecord
from aitbc_server.domain.webhooks import (
    TEST_EVENT,
    Delivery,
    DeliveryStatus,
    Webhook,
)
from aitbc_server.supervisor import Supervisor, end
from aitbc_server.webhooks.answer import Answer
from aitbc_server.webhooks.attempts import once, outcome_of
from aitbc_server.webhooks.lane import Lane
from aitbc_server.webhooks.outbox import Jobs, Outbox
from aitbc_server.webhooks.payload import forgotten_payload, job_payload, test_payload
from aitbc_server.webhooks.schedule import Schedule
from aitbc_server.webhooks.signing import signed_headers
from aitbc_server.webhooks.slots import Slots, acting_for

if TYPE_CHECKING:
    from aitbc_server.webhooks.poster import Poster

T = TypeVar("T")

# Returns the receipt of a job, for its owner. Raises StorageUnavailable.
ReceiptOf = Callable[[JobRecord], Awaitable[Receipt | None]]

_log = structlog.get_logger(__name__)

# Seconds until the storage is asked again.
_RETRY_S = 1.0
# No owner has more of the slots than one of so many parts.
_SHARES = 8
_PRUNE_EVERY_S = 3600.0
# Rows in one commit.
_PRUNED_AT_ONCE = 1000


class Courier:
    """Starts and stops with the coordinator."""

    def __init__(
        self,
        outbox: Outbox,
        jobs: Jobs,
        receipt_of: ReceiptOf,
        make_poster: Callable[[], Poster],
        schedule: Schedule,
        clock: Clock,
        supervisor: Supervisor,
        *,
        most: int,
        most_each: int,
        retention_s: float,
    ) -> None:
        """Makes `most` requests at once, and `most_each` of them to one webhook.

        `make_poster` is called on another thread when there is something to send.
        """
        self._outbox = outbox
        self._jobs = jobs
        self._receipt_of = receipt_of
        self._make_poster = make_poster
        self._poster: Poster | None = None
        self._making = asyncio.Lock()
        self._schedule = schedule
        self._clock = clock
        self._supervisor = supervisor
        # A share holds at least one webhook's, and leaves slots to others.
        self._slots = Slots(most, min(most, max(most_each, most // _SHARES)))
        self._most_each = most_each
        self._retention_us = int(retention_s * 1e6)
        self._lanes: dict[str, Lane] = {}
        # Number of the newest delivery that the lanes have heard of.
        self._seen = 0
        # Without webhooks, a final job costs nothing here.
        self._is_needed = False
        self._is_stopped = False
        self._news = asyncio.Event()
        # What ends at once, and what may finish, when the courier stops.
        self._served: set[asyncio.Task[None]] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        # Attempts so far, by what became of their delivery.
        self.outcomes: Counter[str] = Counter()

    async def start(self) -> None:
        """Takes up what waits. Raises StorageUnavailable."""
        self._is_needed = await self._outbox.exists()
        self._seen, waiting = await self._outbox.waiting()
        for webhook_id in waiting:
            self.wake(webhook_id)
        _own(self._served, self._supervisor.keep("webhook-news", self._listen))
        _own(self._served, self._supervisor.keep("webhook-prune", self._prune))

    def changed(self, webhook_id: str) -> None:
        """Says that a webhook is there, or that it, or what waits for it, has changed."""
        if not self._is_stopped:
            self._is_needed = True
            self.wake(webhook_id)

    def jobs_ended(self) -> None:
        """Says that jobs may have become final: there may be something to deliver."""
        if self._is_needed:
            self._news.set()

    def wake(self, webhook_id: str) -> None:
        """Has a lane look, or look anew, at a webhook and what waits for it."""
        lane = self._lanes.get(webhook_id)
        if lane is not None:
            lane.wake(anew=True)
            return
        lane = self._lanes[webhook_id] = Lane(
            webhook_id, self._outbox, self, self._clock, most=self._most_each
        )
        run = partial(self._run, webhook_id, lane)
        _own(self._served, self._supervisor.finish("webhook-lane", run))

    async def stop(self, grace_s: float) -> None:
        """Lets running attempts end within the grace; the rest stays in the outbox."""
        self._is_stopped = True
        await end(self._served)
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace_s)
        await end(self._attempts)
        if self._poster is not None:
            await self._poster.close()

    async def deliver(self, webhook: Webhook, delivery: Delivery) -> Answer:
        """Makes an attempt and stores what came of it."""
        acting_for.set(webhook.owner)
        async with self._slots.held(webhook.owner):
            began_us = self._clock.wall_us()
            answer = await self._attempt(webhook, delivery)
        outcome = outcome_of(delivery, answer, began_us, self._schedule)
        self.outcomes[outcome.status.value] += 1
        if answer.error:
            _log.info(
                "webhook.attempt_failed",
                webhook_id=webhook.webhook_id,
                delivery_id=delivery.delivery_id,
                attempt=outcome.tries,
                status=answer.status_code,
                is_last=outcome.next_us is None,
            )
        await _patiently(partial(self._outbox.record, [outcome]))
        return answer

    async def test(self, webhook: Webhook, ulid: str) -> Delivery:
        """Sends a test once; returns it as it stands in the log. Raises StorageUnavailable."""
        now_us = self._clock.wall_us()
        test = Delivery(
            number=0,
            webhook_id=webhook.webhook_id,
            event=TEST_EVENT,
            ulid=ulid,
            created_us=now_us,
            status=DeliveryStatus.FAILED,
        )
        # First, because its number is part of its id.
        test = replace(test, number=await self._outbox.log(test))
        acting_for.set(webhook.owner)
        async with self._slots.held(webhook.owner):
            answer = await self._send(webhook, test, test_payload(now_us))
        outcome = once(test, answer, now_us)
        await self._outbox.record([outcome])
        return replace(test, status=outcome.status, attempts=outcome.attempts)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs an attempt that the courier waits for when it stops."""
        _own(self._attempts, asyncio.create_task(work))

    async def _listen(self) -> None:
        # What came before, and what broke this off the last time.
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                seen, webhook_ids = await self._outbox.newer(self._seen)
            except StorageUnavailable:
                await asyncio.sleep(_RETRY_S)
                self._news.set()
                continue
            for webhook_id in webhook_ids:
                self._nudge(webhook_id)
            self._seen = seen

    def _nudge(self, webhook_id: str) -> None:
        lane = self._lanes.get(webhook_id)
        if lane is None:
            self.wake(webhook_id)
        else:
            # It reads what is new after what it has.
            lane.wake()

    async def _run(self, webhook_id: str, lane: Lane) -> None:
        while True:
            try:
                await lane.run()
            except StorageUnavailable:
                await asyncio.sleep(_RETRY_S)
            else:
                del self._lanes[webhook_id]
                return

    async def _attempt(self, webhook: Webhook, delivery: Delivery) -> Answer:
        try:
            body = await self._body(delivery)
            if body is None:
                return Answer(duration_ms=0, error="its job is no more", is_repeatable=False)
            return await self._send(webhook, delivery, body)
        except Exception as error:
            # Whatever it is, the lane goes on, and the schedule says when this one does.
            _log.error("webhook.attempt_broke", error=type(error).__name__)
            return Answer(duration_ms=0, error="the coordinator could not send it")

    async def _body(self, delivery: Delivery) -> bytes | None:
        if delivery.job_id is None:
            return test_payload(delivery.created_us)
        record = await _patiently(partial(self._jobs.job, delivery.job_id))
        if record is None:
            return None if delivery.is_job_kept else forgotten_payload(delivery)
        receipt = await _patiently(partial(self._receipt_of, record))
        return job_payload(delivery.event, record, receipt)

    async def _send(self, webhook: Webhook, delivery: Delivery, body: bytes) -> Answer:
        now_us = self._clock.wall_us()
        keys = webhook.secrets_at(now_us)
        headers = signed_headers(keys, delivery.delivery_id, now_us // 1_000_000, body)
        async with self._making:
            if self._poster is None:
                self._poster = await asyncio.to_thread(self._make_poster)
        return await self._poster.post(webhook.url, headers, body)

    async def _prune(self) -> None:
        while True:
            try:
                before_us = self._clock.wall_us() - self._retention_us
                while await self._outbox.prune(before_us, _PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
                    pass
            except StorageUnavailable:
                _log.warning("webhook.prune_failed")
            await asyncio.sleep(_PRUNE_EVERY_S)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks the storage until it answers."""
    while True:
        try:
            return await ask()
        except StorageUnavailable:
            await asyncio.sleep(_RETRY_S)


def _own(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    tasks.add(task)
    task.add_done_callback(tasks.discard)

"""Webhooks and their outbox on the SQLite file: what the courier and the service ask of storage."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aitbc_server.domain.webhooks import (
    Delivery,
    DeliveryStatus,
    Outcome,
    SecretChange,
    Webhook,
    WebhookChange,
)
from aitbc_server.store import webhook_writes as writes
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.webhook_reads import WebhookReads


class WebhookTables:
    """Webhooks and deliveries, durably. Futures as in the Store."""

    def __init__(self, write: BatchThread, read: BatchThread, reads: WebhookReads) -> None:
        self._write = write.put
        self._read = read.put
        self._reads = reads
        # Called on the loop after a commit that changed a webhook, or what waits for it.
        self.on_changed: Callable[[str], None] = lambda _: None

    def add(self, webhook: Webhook, most: int) -> Future[bool]:
        """Stores a webhook; False when its owner has as many as `most`."""
        return self._change(webhook.webhook_id, writes.AddWebhook(webhook, most))

    def change(self, change: WebhookChange) -> Future[bool]:
        """Changes a webhook; False when it is no more."""
        return self._change(change.webhook_id, writes.ChangeWebhook(change))

    def change_secret(self, change: SecretChange) -> Future[bool]:
        """Gives a webhook a new secret; False when it is no more."""
        return self._change(change.webhook_id, writes.ChangeSecret(change))

    def drop(self, webhook_id: str) -> Future[bool]:
        """Deletes a webhook, not its deliveries; False when it is no more."""
        return self._change(webhook_id, writes.DropWebhook(webhook_id))

    def drop_deliveries(self, webhook_id: str, most: int) -> Future[int]:
        """Deletes so many deliveries of a webhook at most; returns how many."""
        return self._write(writes.DropDeliveries(webhook_id, most))

    def prune(self, before_us: int, most: int) -> Future[int]:
        """Deletes so many deliveries from before a time at most; returns how many."""
        return self._write(writes.PruneDeliveries(before_us, most))

    def log(self, delivery: Delivery) -> Future[int]:
        """Stores a delivery that was made outside the outbox; returns its number."""
        return self._write(writes.LogDelivery(delivery))

    def record(self, outcomes: Sequence[Outcome]) -> Future[None]:
        """Stores what attempts came to."""
        return self._write(writes.RecordOutcomes(outcomes))

    def redeliver(self, webhook_id: str, number: int, now_us: int) -> Future[None]:
        """Makes a delivery of a webhook due, its schedule from the beginning."""
        return self._change(webhook_id, writes.Redeliver(number, now_us))

    def webhook(self, webhook_id: str) -> Future[Webhook | None]:
        """Returns a webhook."""
        return self._read(partial(self._reads.webhook, webhook_id))

    def webhooks(
        self, owner: str, *, limit: int, after: str | None = None
    ) -> Future[list[Webhook]]:
        """Returns a page of the owner's webhooks, the oldest first."""
        return self._read(partial(self._reads.webhooks, owner, after, limit))

    def delivery(self, number: int) -> Future[Delivery | None]:
        """Returns a delivery."""
        return self._read(partial(self._reads.delivery, number))

    def deliveries(
        self,
        webhook_id: str,
        *,
        limit: int,
        status: DeliveryStatus | None = None,
        before: int | None = None,
    ) -> Future[list[Delivery]]:
        """Returns a page of a webhook's deliveries, the newest first."""
        return self._read(partial(self._reads.deliveries, webhook_id, status, before, limit))

    def due(self, webhook_id: str, limit: int) -> Future[tuple[Webhook | None, list[Delivery]]]:
        """Returns a webhook and what it is to be sent next, the earliest first."""
        return self._read(partial(self._reads.due, webhook_id, limit))

    def exists(self) -> Future[bool]:
        """Says whether there is any webhook."""
        return self._read(self._reads.exists)

    def waiting(self) -> Future[tuple[int, list[str]]]:
        """Returns the last delivery's number, and the webhooks for which some wait."""
        return self._read(self._reads.waiting)

    def newer(self, number: int) -> Future[tuple[int, list[str]]]:
        """Returns the last delivery's number, and the webhooks that got some after a number."""
        return self._read(partial(self._reads.newer, number))

    def _change(self, webhook_id: str, operation: Any) -> Future[Any]:
        return self._write(operation, partial(self._changed, webhook_id))

    def _changed(self, webhook_id: str, result: object) -> None:
        # False: there was nothing to change.
        if result is not False and not isinstance(result, BaseException):
            self.on_changed(webhook_id)

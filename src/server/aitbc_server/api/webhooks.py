"""WebhookService: where clients want to be notified, and what became of it."""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Protocol

from aitbc.v1 import webhooks_pb2
from aitbc_server.api.convert import page_start, page_token, set_timestamp, timestamp
from aitbc_server.api.pages import page_of
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    DeliveryNotFound,
    InvalidArgument,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from aitbc_server.domain.ids import IdSource
from aitbc_server.domain.webhooks import (
    Attempt,
    Delivery,
    DeliveryStatus,
    SecretChange,
    Webhook,
    WebhookChange,
    number_of_delivery,
    webhook_id_of,
)
from aitbc_server.lifecycle import Lifecycle
from aitbc_server.webhooks.courier import Courier
from aitbc_server.webhooks.guard import Guard, NameNotFound, Refused, target_port
from aitbc_server.webhooks.signing import new_secret, secret_text
from aitbc_server.webhooks.slots import acting_for

_PAGE = 20
# An owner has few of them, unless a setting says otherwise.
_WEBHOOKS_PAGE = 1000
_OVERLAP_S = 86_400
# Time for a name to be looked up while its webhook is registered. It is looked up again anyway.
_LOOK_UP_S = 3.0
# Rows in one commit.
_DROPPED_AT_ONCE = 1000

_STATUS_TO_PROTO = {
    status: webhooks_pb2.DeliveryStatus.Value(f"DELIVERY_STATUS_{status.name}")
    for status in DeliveryStatus
}
_STATUS_FROM_PROTO = {number: status for status, number in _STATUS_TO_PROTO.items()}


class WebhookStore(Protocol):
    """What the service needs of storage. Each method raises StorageUnavailable."""

    def add(self, webhook: Webhook, most: int) -> Future[bool]:
        """Stores a webhook; False when its owner has as many as `most`."""
        ...

    def change(self, change: WebhookChange) -> Future[bool]:
        """Changes a webhook; False when it is no more."""
        ...

    def change_secret(self, change: SecretChange) -> Future[bool]:
        """Gives a webhook a new secret; False when it is no more."""
        ...

    def drop(self, webhook_id: str) -> Future[bool]:
        """Deletes a webhook, not its deliveries; False when it is no more."""
        ...

    def drop_deliveries(self, webhook_id: str, most: int) -> Future[int]:
        """Deletes so many deliveries of a webhook at most; returns how many."""
        ...

    def redeliver(self, webhook_id: str, number: int, now_us: int) -> Future[None]:
        """Makes a delivery of a webhook due, its schedule from the beginning."""
        ...

    def webhook(self, webhook_id: str) -> Future[Webhook | None]:
        """Returns a webhook."""
        ...

    def webhooks(
        self, owner: str, *, limit: int, after: str | None = None
    ) -> Future[list[Webhook]]:
        """Returns a page of the owner's webhooks, the oldest first."""
        ...

    def delivery(self, number: int) -> Future[Delivery | None]:
        """Returns a delivery."""
        ...

    def deliveries(
        self,
        webhook_id: str,
        *,
        limit: int,
        status: DeliveryStatus | None = None,
        before: int | None = None,
    ) -> Future[list[Delivery]]:
        """Returns a page of a webhook's deliveries, the newest first."""
        ...


class WebhookService:
    """Implements aitbc.v1.WebhookService."""

    descriptor = webhooks_pb2.DESCRIPTOR.services_by_name["WebhookService"]

    def __init__(
        self,
        store: WebhookStore,
        courier: Courier,
        guard: Guard,
        clock: Clock,
        ids: IdSource,
        lifecycle: Lifecycle,
        *,
        most_each: int,
    ) -> None:
        """`most_each`: webhooks that one owner may have."""
        self._store = store
        self._courier = courier
        self._guard = guard
        self._clock = clock
        self._ids = ids
        self._lifecycle = lifecycle
        self._most_each = most_each

    async def create_webhook(
        self, request: webhooks_pb2.CreateWebhookRequest, caller: Caller
    ) -> webhooks_pb2.Webhook:
        """Stores a webhook and shows its secret."""
        self._lifecycle.check_serving()
        now_us = self._clock.wall_us()
        webhook = Webhook(
            webhook_id=webhook_id_of(self._ids.ulid(now_us)),
            owner=caller.owner,
            url=await self._checked(request.url, caller),
            events=tuple(sorted(set(request.events))),
            created_us=now_us,
            secret=new_secret(),
        )
        if not await self._store.add(webhook, self._most_each):
            raise TooManyWebhooks(f"you have {self._most_each} webhooks already")
        message = _webhook(webhook, now_us)
        message.secret = secret_text(webhook.secret)
        return message

    async def list_webhooks(
        self, request: webhooks_pb2.ListWebhooksRequest, caller: Caller
    ) -> webhooks_pb2.ListWebhooksResponse:
        """Returns a page of the caller's webhooks."""
        now_us = self._clock.wall_us()
        limit = request.limit if request.HasField("limit") else _WEBHOOKS_PAGE
        found = await self._store.webhooks(
            caller.owner, limit=limit + 1, after=page_start(request.page_token)
        )
        page = page_of(found, limit, lambda webhook: _webhook(webhook, now_us))
        return webhooks_pb2.ListWebhooksResponse(
            webhooks=page.items,
            next_page_token=page_token(page.last.webhook_id) if page.last else "",
        )

    async def get_webhook(
        self, request: webhooks_pb2.GetWebhookRequest, caller: Caller
    ) -> webhooks_pb2.Webhook:
        """Returns a webhook."""
        return _webhook(await self._own(request.webhook_id, caller), self._clock.wall_us())

    async def update_webhook(
        self, request: webhooks_pb2.UpdateWebhookRequest, caller: Caller
    ) -> webhooks_pb2.Webhook:
        """Changes what the request holds."""
        self._lifecycle.check_serving()
        await self._own(request.webhook_id, caller)
        change = WebhookChange(
            webhook_id=request.webhook_id,
            url=await self._checked(request.url, caller) if request.HasField("url") else None,
            events=tuple(sorted(set(request.events))) or None,
            is_enabled=request.enabled if request.HasField("enabled") else None,
        )
        if not await self._store.change(change):
            raise WebhookNotFound
        return _webhook(await self._own(request.webhook_id, caller), self._clock.wall_us())

    async def delete_webhook(
        self, request: webhooks_pb2.DeleteWebhookRequest, caller: Caller
    ) -> webhooks_pb2.DeleteWebhookResponse:
        """Deletes a webhook, then its deliveries bit by bit."""
        self._lifecycle.check_serving()
        webhook_id = (await self._own(request.webhook_id, caller)).webhook_id
        if not await self._store.drop(webhook_id):
            raise WebhookNotFound
        while await self._store.drop_deliveries(webhook_id, _DROPPED_AT_ONCE) == _DROPPED_AT_ONCE:
            pass
        return webhooks_pb2.DeleteWebhookResponse()

    async def rotate_webhook_secret(
        self, request: webhooks_pb2.RotateWebhookSecretRequest, caller: Caller
    ) -> webhooks_pb2.Webhook:
        """Stores a new secret and shows it."""
        self._lifecycle.check_serving()
        await self._own(request.webhook_id, caller)
        overlap_s = request.overlap_seconds if request.HasField("overlap_seconds") else _OVERLAP_S
        now_us = self._clock.wall_us()
        change = SecretChange(
            webhook_id=request.webhook_id,
            secret=new_secret(),
            previous_until_us=now_us + overlap_s * 1_000_000,
        )
        if not await self._store.change_secret(change):
            raise WebhookNotFound
        message = _webhook(await self._own(request.webhook_id, caller), now_us)
        message.secret = secret_text(change.secret)
        return message

    async def test_webhook(
        self, request: webhooks_pb2.TestWebhookRequest, caller: Caller
    ) -> webhooks_pb2.Delivery:
        """Sends a test and tells what came of it."""
        self._lifecycle.check_serving()
        webhook = await self._own(request.webhook_id, caller)
        ulid = self._ids.ulid(self._clock.wall_us())
        return _delivery(await self._courier.test(webhook, ulid))

    async def list_deliveries(
        self, request: webhooks_pb2.ListDeliveriesRequest, caller: Caller
    ) -> webhooks_pb2.ListDeliveriesResponse:
        """Returns a page of a webhook's deliveries."""
        webhook = await self._own(request.webhook_id, caller)
        start = page_start(request.page_token)
        before = None if start is None else number_of_delivery(start)
        limit = request.limit if request.HasField("limit") else _PAGE
        found = await self._store.deliveries(
            webhook.webhook_id,
            limit=limit + 1,
            status=_STATUS_FROM_PROTO.get(request.status),
            before=before,
        )
        page = page_of(found, limit, _delivery)
        return webhooks_pb2.ListDeliveriesResponse(
            deliveries=page.items,
            next_page_token=page_token(page.last.delivery_id) if page.last else "",
        )

    async def get_delivery(
        self, request: webhooks_pb2.GetDeliveryRequest, caller: Caller
    ) -> webhooks_pb2.Delivery:
        """Returns a delivery."""
        await self._own(request.webhook_id, caller)
        return _delivery(await self._delivery(request.webhook_id, request.delivery_id))

    async def redeliver_delivery(
        self, request: webhooks_pb2.RedeliverDeliveryRequest, caller: Caller
    ) -> webhooks_pb2.Delivery:
        """Makes a delivery due now."""
        self._lifecycle.check_serving()
        webhook = await self._own(request.webhook_id, caller)
        delivery = await self._delivery(webhook.webhook_id, request.delivery_id)
        if not webhook.is_enabled:
            raise WebhookDisabled
        await self._store.redeliver(webhook.webhook_id, delivery.number, self._clock.wall_us())
        return _delivery(await self._delivery(webhook.webhook_id, request.delivery_id))

    async def _own(self, webhook_id: str, caller: Caller) -> Webhook:
        webhook = await self._store.webhook(webhook_id)
        if webhook is None or not caller.owns(webhook.owner):
            raise WebhookNotFound
        return webhook

    async def _delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        number = number_of_delivery(delivery_id)
        delivery = None if number is None else await self._store.delivery(number)
        if delivery is None or (delivery.webhook_id, delivery.delivery_id) != (
            webhook_id,
            delivery_id,
        ):
            raise DeliveryNotFound
        return delivery

    async def _checked(self, text: str, caller: Caller) -> str:
        """Returns the URL. Raises InvalidArgument when messages are not to go there."""
        acting_for.set(caller.owner)
        try:
            url = self._guard.check_url(text)
            async with asyncio.timeout(_LOOK_UP_S):
                await self._guard.addresses(url.host, target_port(url))
        except Refused as error:
            raise InvalidArgument("url", str(error)) from None
        except (NameNotFound, TimeoutError):
            # The name may be there when something is to be sent.
            pass
        return text


def _webhook(webhook: Webhook, now_us: int) -> webhooks_pb2.Webhook:
    status = "WEBHOOK_STATUS_ENABLED" if webhook.is_enabled else "WEBHOOK_STATUS_DISABLED"
    message = webhooks_pb2.Webhook(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        events=webhook.events,
        status=webhooks_pb2.WebhookStatus.Value(status),
        disabled_reason=webhook.disabled_reason or "",
        created_at=timestamp(webhook.created_us),
    )
    if len(webhook.secrets_at(now_us)) > 1:
        set_timestamp(message.previous_secret_expires_at, webhook.previous_until_us or 0)
    return message


def _delivery(delivery: Delivery) -> webhooks_pb2.Delivery:
    message = webhooks_pb2.Delivery(
        delivery_id=delivery.delivery_id,
        event=delivery.event,
        job_id=delivery.job_id or "",
        status=_STATUS_TO_PROTO[delivery.status],
        created_at=timestamp(delivery.created_us),
        attempts=[_attempt(attempt) for attempt in delivery.attempts],
    )
    if delivery.next_us is not None:
        set_timestamp(message.next_attempt_at, delivery.next_us)
    return message


def _attempt(attempt: Attempt) -> webhooks_pb2.DeliveryAttempt:
    return webhooks_pb2.DeliveryAttempt(
        attempted_at=timestamp(attempt.at_us),
        duration_ms=attempt.duration_ms,
        status_code=attempt.status_code,
        error=attempt.error,
    )

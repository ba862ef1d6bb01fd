"""Reads of webhooks and of what they are sent. Runs on the reader's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from aitbc_server.domain.webhooks import Attempt, Delivery, DeliveryStatus, Webhook
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.statements import statements

_SQL = statements("webhook_reads.sql")
_AFTER_ALL = 2**63 - 1


class WebhookReads:
    """What is read of webhooks."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def webhook(self, webhook_id: str) -> Webhook | None:
        """Returns a webhook."""
        row = self._execute(_SQL["webhook"], (webhook_id,)).fetchone()
        return _webhook(row) if row else None

    def webhooks(self, owner: str, after: str | None, limit: int) -> list[Webhook]:
        """Returns a page of the owner's webhooks, the oldest first."""
        rows = self._execute(_SQL["webhooks"], (owner, after or "", limit))
        return [_webhook(row) for row in rows]

    def delivery(self, number: int) -> Delivery | None:
        """Returns a delivery."""
        row = self._execute(_SQL["delivery"], (number,)).fetchone()
        return _delivery(row) if row else None

    def deliveries(
        self, webhook_id: str, status: DeliveryStatus | None, before: int | None, limit: int
    ) -> list[Delivery]:
        """Returns a page of a webhook's deliveries, the newest first."""
        values = (webhook_id, _AFTER_ALL if before is None else before, limit)
        if status is None:
            rows = self._execute(_SQL["page"], values)
        else:
            rows = self._execute(_SQL["page_status"], (*values, status))
        return [_delivery(row) for row in rows]

    def due(self, webhook_id: str, limit: int) -> tuple[Webhook | None, list[Delivery]]:
        """Returns a webhook and what it is to be sent next, the earliest first."""
        rows = self._execute(_SQL["due"], (webhook_id, limit))
        return self.webhook(webhook_id), [_delivery(row) for row in rows]

    def exists(self) -> bool:
        """Says whether there is any webhook."""
        return bool(self._execute(_SQL["exists"]).fetchone()[0])

    def waiting(self) -> tuple[int, list[str]]:
        """Returns the last delivery's number, and the webhooks for which some wait."""
        (last,) = self._execute(_SQL["last_number"]).fetchone()
        return last, [webhook_id for (webhook_id,) in self._execute(_SQL["waiting"])]

    def newer(self, number: int) -> tuple[int, list[str]]:
        """Returns the last delivery's number, and the webhooks that got some after a number."""
        (last,) = self._execute(_SQL["last_number"]).fetchone()
        if last <= number:
            return number, []
        return last, [webhook_id for (webhook_id,) in self._execute(_SQL["newer"], (number,))]


def _webhook(row: Sequence[Any]) -> Webhook:
    return Webhook(
        webhook_id=row[0],
        owner=row[1],
        url=row[2],
        events=tuple(orjson.loads(row[3])),
        created_us=row[4],
        secret=row[5],
        previous_secret=row[6],
        previous_until_us=row[7],
        is_enabled=bool(row[8]),
        disabled_reason=row[9],
    )


def _delivery(row: Sequence[Any]) -> Delivery:
    return Delivery(
        number=row[0],
        webhook_id=row[1],
        event=row[2],
        ulid=row[3],
        created_us=row[4],
        status=DeliveryStatus(row[5]),
        tries=row[6],
        next_us=row[7],
        attempts=tuple(
            Attempt(at_us=at_us, duration_ms=duration_ms, status_code=status_code, error=error)
            for at_us, duration_ms, status_code, error in orjson.loads(row[8])
        ),
        is_job_kept=bool(row[9]),
    )

"""Writes of webhooks and of what they are sent. Runs on the writer's thread.

What is to be sent gets into the outbox by a trigger, in the commit that makes a job final.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aitbc_server.domain.webhooks import (
    Attempt,
    Delivery,
    Outcome,
    SecretChange,
    Webhook,
    WebhookChange,
)
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.rows import json_rows
from aitbc_server.store.statements import statements
from aitbc_server.store.writer import Writes

_SQL = statements("webhook_writes.sql")


@dataclass(frozen=True, slots=True)
class AddWebhook:
    """Stores a webhook unless its owner has that many."""

    webhook: Webhook
    most: int


@dataclass(frozen=True, slots=True)
class ChangeWebhook:
    """Changes a webhook."""

    change: WebhookChange


@dataclass(frozen=True, slots=True)
class ChangeSecret:
    """Gives a webhook a new secret."""

    change: SecretChange


@dataclass(frozen=True, slots=True)
class DropWebhook:
    """Deletes a webhook."""

    webhook_id: str


@dataclass(frozen=True, slots=True)
class LogDelivery:
    """Stores a delivery that was made outside the outbox; its number is given by the store."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class RecordOutcomes:
    """Stores what attempts came to."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Redeliver:
    """Makes a delivery due, its schedule from the beginning."""

    number: int
    now_us: int


@dataclass(frozen=True, slots=True)
class DropDeliveries:
    """Deletes some deliveries of a webhook that is no more."""

    webhook_id: str
    most: int


@dataclass(frozen=True, slots=True)
class PruneDeliveries:
    """Deletes some of the oldest deliveries, those from before a time."""

    before_us: int
    most: int


class WebhookWrites:
    """The part of the writer that webhooks are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self.writes: Writes = {
            AddWebhook: self._add,
            ChangeWebhook: self._change,
            ChangeSecret: self._change_secret,
            DropWebhook: self._drop,
            LogDelivery: self._log,
            RecordOutcomes: self._record,
            Redeliver: self._redeliver,
            DropDeliveries: self._drop_deliveries,
            PruneDeliveries: self._prune,
        }

    def _add(self, operations: Sequence[AddWebhook]) -> Sequence[bool]:
        answers = []
        for operation in operations:
            one = operation.webhook
            events = json_rows(one.events)
            values = (one.webhook_id, one.owner, one.url, events, one.secret, one.created_us)
            done = self._execute(_SQL["insert_webhook"], (*values, operation.most))
            answers.append(done.rowcount == 1)
        return answers

    def _change(self, operations: Sequence[ChangeWebhook]) -> Sequence[bool]:
        answers = []
        for operation in operations:
            one = operation.change
            events = None if one.events is None else json_rows(one.events)
            values = (one.webhook_id, one.url, events, one.is_enabled)
            answers.append(self._execute(_SQL["change_webhook"], values).rowcount == 1)
        return answers

    def _change_secret(self, operations: Sequence[ChangeSecret]) -> Sequence[bool]:
        answers = []
        for operation in operations:
            one = operation.change
            values = (one.webhook_id, one.secret, one.previous_until_us)
            answers.append(self._execute(_SQL["change_secret"], values).rowcount == 1)
        return answers

    def _drop(self, operations: Sequence[DropWebhook]) -> Sequence[bool]:
        return [
            self._execute(_SQL["delete_webhook"], (operation.webhook_id,)).rowcount == 1
            for operation in operations
        ]

    def _log(self, operations: Sequence[LogDelivery]) -> Sequence[int]:
        return [
            self._execute(
                _SQL["insert_delivery"],
                (
                    operation.delivery.webhook_id,
                    operation.delivery.event,
                    operation.delivery.ulid,
                    operation.delivery.created_us,
                    operation.delivery.status,
                    _attempts(operation.delivery.attempts),
                ),
            ).fetchone()[0]
            for operation in operations
        ]

    def _record(self, operations: Sequence[RecordOutcomes]) -> Sequence[None]:
        outcomes = [one for operation in operations for one in operation.outcomes]
        rows = [
            (one.number, one.status, one.tries, one.next_us, _attempts(one.attempts))
            for one in outcomes
        ]
        self._execute(_SQL["record_outcomes"], (json_rows(rows),))
        disabled = [(one.webhook_id, one.disables) for one in outcomes if one.disables]
        if disabled:
            self._execute(_SQL["disable_webhooks"], (json_rows(disabled),))
        return [None] * len(operations)

    def _redeliver(self, operations: Sequence[Redeliver]) -> Sequence[None]:
        for operation in operations:
            self._execute(_SQL["redeliver"], (operation.number, operation.now_us))
        return [None] * len(operations)

    def _drop_deliveries(self, operations: Sequence[DropDeliveries]) -> Sequence[int]:
        return [
            self._execute(_SQL["delete_deliveries"], (one.webhook_id, one.most)).rowcount
            for one in operations
        ]

    def _prune(self, operations: Sequence[PruneDeliveries]) -> Sequence[int]:
        return [
            self._execute(_SQL["prune_deliveries"], (one.before_us, one.most)).rowcount
            for one in operations
        ]


def _attempts(attempts: Sequence[Attempt]) -> str:
    return json_rows([(a.at_us, a.duration_ms, a.status_code, a.error) for a in attempts])

"""The seam between the courier and storage."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from typing import Protocol

from aitbc_server.domain.jobs import JobRecord
from aitbc_server.domain.webhooks import Delivery, Outcome, Webhook


class Jobs(Protocol):
    """Where the jobs are that messages are about."""

    def job(self, job_id: str) -> Future[JobRecord | None]:
        """Returns a job. Raises StorageUnavailable."""
        ...


class Outbox(Protocol):
    """What is to be delivered, durably. Each method raises StorageUnavailable."""

    def exists(self) -> Future[bool]:
        """Says whether there is any webhook."""
        ...

    def waiting(self) -> Future[tuple[int, list[str]]]:
        """Returns the last delivery's number, and the webhooks for which some wait."""
        ...

    def newer(self, number: int) -> Future[tuple[int, list[str]]]:
        """Returns the last delivery's number, and the webhooks that got some after a number."""
        ...

    def due(self, webhook_id: str, limit: int) -> Future[tuple[Webhook | None, list[Delivery]]]:
        """Returns a webhook and what it is to be sent next, the earliest first."""
        ...

    def log(self, delivery: Delivery) -> Future[int]:
        """Stores a delivery that is made outside the outbox; returns its number."""
        ...

    def record(self, outcomes: Sequence[Outcome]) -> Future[None]:
        """Stores what attempts came to."""
        ...

    def prune(self, before_us: int, most: int) -> Future[int]:
        """Deletes so many deliveries from before a time at most; returns how many."""
        ...

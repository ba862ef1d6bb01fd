"""What a webhook is, and what it is sent.

Times are integers: microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from aitbc_server.domain.ids import JOB_PREFIX

# Type of the event that TestWebhook sends. Others are `job.` and the job's final status.
TEST_EVENT = "webhook.test"
# Attempts that a delivery's log keeps.
LOGGED_ATTEMPTS = 20

_WEBHOOK_PREFIX = "webhook-"
_DELIVERY_ID = re.compile(r"msg-([0-7][0-9a-hjkmnp-tv-z]{25})-([1-9][0-9]{0,17})")


class DeliveryStatus(StrEnum):
    """Where a delivery is."""

    #: To be tried, for the first time or again.
    PENDING = "pending"
    #: The receiver answered with a 2xx status.
    DELIVERED = "delivered"
    #: No attempt is left.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where a client wants to be notified, and of what."""

    webhook_id: str
    owner: str
    url: str
    # Types of events, sorted.
    events: tuple[str, ...]
    created_us: int
    secret: bytes = b""
    # The secret before this one, and until when messages are signed with it too.
    previous_secret: bytes | None = None
    previous_until_us: int | None = None
    is_enabled: bool = True
    # Why the coordinator disabled it.
    disabled_reason: str | None = None

    def secrets_at(self, now_us: int) -> tuple[bytes, ...]:
        """Returns the secrets that a message is signed with, the newest first."""
        if self.previous_secret is not None and now_us < (self.previous_until_us or 0):
            return self.secret, self.previous_secret
        return (self.secret,)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookChange:
    """What is to be different about a webhook; None leaves it."""

    webhook_id: str
    url: str | None = None
    events: tuple[str, ...] | None = None
    is_enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretChange:
    """A new secret for a webhook, and until when the one before is good too."""

    webhook_id: str
    secret: bytes
    previous_until_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to a receiver."""

    at_us: int
    duration_ms: int
    # None when the receiver did not answer.
    status_code: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one webhook."""

    # Counts up over all deliveries.
    number: int
    webhook_id: str
    event: str
    # Of the job, or the test's own.
    ulid: str
    created_us: int
    status: DeliveryStatus
    # Attempts since it was to be delivered, for the first time or again.
    tries: int = 0
    # When it is tried next; None unless pending.
    next_us: int | None = None
    # The latest last.
    attempts: tuple[Attempt, ...] = ()
    # Whether what was asked and answered of its job is kept.
    is_job_kept: bool = True

    @property
    def delivery_id(self) -> str:
        """Its id: unique also when a database begins anew, because of the ULID."""
        return f"msg-{self.ulid}-{self.number}"

    @property
    def job_id(self) -> str | None:
        """The job that it is about; None for a test."""
        return None if self.event == TEST_EVENT else JOB_PREFIX + self.ulid


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt made of a delivery."""

    number: int
    webhook_id: str
    status: DeliveryStatus
    tries: int
    next_us: int | None
    attempts: tuple[Attempt, ...]
    # Why the webhook is not to be sent anything any more.
    disables: str | None = None


def webhook_id_of(ulid: str) -> str:
    """Returns the id of a webhook."""
    return _WEBHOOK_PREFIX + ulid


def number_of_delivery(delivery_id: str) -> int | None:
    """Returns the number in a delivery's id, or None when the text is no such id."""
    match = _DELIVERY_ID.fullmatch(delivery_id)
    return int(match[2]) if match else None

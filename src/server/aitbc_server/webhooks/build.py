"""Puts the parts of webhooks together, as the settings say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from aitbc.v1.receipts_pb2 import Receipt
from aitbc_server.api.receipts import read_receipt
from aitbc_server.config import Settings
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.jobs import JobRecord
from aitbc_server.domain.receipts import receipt_id_of
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.supervisor import Supervisor
from aitbc_server.webhooks.courier import Courier
from aitbc_server.webhooks.guard import Guard
from aitbc_server.webhooks.names import SystemResolver
from aitbc_server.webhooks.outbox import Jobs, Outbox
from aitbc_server.webhooks.schedule import Schedule

if TYPE_CHECKING:
    from aitbc_server.webhooks.poster import Poster

_DAY_S = 86_400


def build_guard(settings: Settings) -> Guard:
    """Returns the guard over where messages may go."""
    return Guard(
        allowed=settings.webhook_allow_networks,
        ports=frozenset(settings.webhook_ports),
        resolve=SystemResolver(),
    )


def build_courier(
    settings: Settings,
    guard: Guard,
    outbox: Outbox,
    jobs: Jobs,
    ledger: StoredLedger,
    clock: Clock,
    supervisor: Supervisor,
) -> Courier:
    """Returns a courier that is not started."""

    async def receipt_of(record: JobRecord) -> Receipt | None:
        if not record.has_receipt:
            return None
        return await read_receipt(
            ledger, receipt_id_of(record.job_id), reader=Caller(owner=record.owner)
        )

    def poster() -> Poster:
        # Here: most coordinators have no webhook, and a start does not wait for a client of HTTP.
        import httpx

        from aitbc_server.webhooks.poster import Poster

        return Poster(
            guard,
            clock,
            # Trusts what SSL_CERT_FILE names, else what the Mozilla project does.
            ssl_context=httpx.create_ssl_context(),
            timeout_s=settings.webhook_timeout_seconds,
            connections=settings.webhook_concurrency,
        )

    return Courier(
        outbox,
        jobs,
        receipt_of,
        poster,
        Schedule(settings.webhook_retry_seconds, random.Random()),
        clock,
        supervisor,
        most=settings.webhook_concurrency,
        most_each=settings.webhook_endpoint_concurrency,
        retention_s=settings.webhook_retention_days * _DAY_S,
    )

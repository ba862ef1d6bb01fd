"""The outbox as it is stored: what gets into it, what gets out, and at what cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aitbc_server.domain.jobs import JobStatus
from aitbc_server.domain.webhooks import Delivery, DeliveryStatus, Outcome, Webhook
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.store.statements import statements
from tests.factories import START_US, begin, completion, ending, new_job, submission

EVENTS = ("job.cancelled", "job.completed", "job.failed")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    await store.close()


def webhook(number: int = 1, **fields: object) -> Webhook:
    """Returns a webhook of the owner of all jobs."""
    values: dict[str, object] = {
        "webhook_id": f"webhook-{number}",
        "owner": new_job().owner,
        "url": "https://name.example/",
        "events": EVENTS,
        "created_us": START_US,
        "secret": b"secret",
    }
    return Webhook(**(values | fields))  # type: ignore[arg-type]


async def _ended(store: SqliteStore, count: int = 1) -> list[str]:
    jobs = [new_job() for _ in range(count)]
    await store.submit(submission(*jobs))
    await store.end([ending(job.job_id, JobStatus.CANCELLED, None) for job in jobs])
    return [job.job_id for job in jobs]


async def _waiting(store: SqliteStore, webhook_id: str = "webhook-1") -> list[Delivery]:
    _, found = await store.webhooks.due(webhook_id, 10_000)
    return found


async def test_each_end_of_a_job_is_put_into_the_outbox_once(store: SqliteStore) -> None:
    await store.webhooks.add(webhook(), 9)
    job = new_job()
    await store.submit(submission(job))
    await store.begin([begin(job.job_id)])
    assert await _waiting(store) == []
    for _ in range(2):
        await store.complete([completion(job.job_id)])
    [delivery] = await _waiting(store)
    assert (delivery.job_id, delivery.event) == (job.job_id, "job.completed")
    assert (delivery.status, delivery.tries) == (DeliveryStatus.PENDING, 0)


async def test_an_attempt_that_is_given_back_is_no_end(store: SqliteStore) -> None:
    await store.webhooks.add(webhook(), 9)
    job = new_job()
    await store.submit(submission(job))
    await store.begin([begin(job.job_id)])
    await store.end([ending(job.job_id, JobStatus.PENDING)])
    assert await _waiting(store) == []


async def test_every_webhook_that_wants_it_gets_one_of_its_own(store: SqliteStore) -> None:
    await store.webhooks.add(webhook(1), 9)
    await store.webhooks.add(webhook(2), 9)
    await store.webhooks.add(webhook(3, events=("job.completed",)), 9)
    await store.webhooks.add(webhook(4, owner="ait1other"), 9)
    await _ended(store)
    counts = [len(await _waiting(store, f"webhook-{number}")) for number in (1, 2, 3, 4)]
    assert counts == [1, 1, 0, 0]


async def test_numbers_are_never_used_twice(store: SqliteStore) -> None:
    await store.webhooks.add(webhook(), 9)
    await _ended(store, 3)
    before = max(delivery.number for delivery in await _waiting(store))
    assert await store.webhooks.drop_deliveries("webhook-1", 1000) == 3
    await _ended(store)
    [delivery] = await _waiting(store)
    assert delivery.number > before
    assert await store.webhooks.newer(before) == (delivery.number, ["webhook-1"])
    assert await store.webhooks.newer(delivery.number) == (delivery.number, [])


async def test_old_deliveries_are_pruned_some_at_a_time(store: SqliteStore) -> None:
    await store.webhooks.add(webhook(), 9)
    await _ended(store, 5)
    ended_us = (await _waiting(store))[0].created_us
    assert await store.webhooks.prune(ended_us, 1000) == 0
    assert await store.webhooks.prune(ended_us + 1, 2) == 2
    assert await store.webhooks.prune(ended_us + 1, 1000) == 3
    assert await _waiting(store) == []


async def test_an_outcome_moves_a_delivery_on(store: SqliteStore) -> None:
    await store.webhooks.add(webhook(), 9)
    await _ended(store)
    [delivery] = await _waiting(store)
    values = {"number": delivery.number, "webhook_id": "webhook-1", "attempts": ()}
    await store.webhooks.record(
        [Outcome(status=DeliveryStatus.PENDING, tries=1, next_us=7, **values)]  # type: ignore[arg-type]
    )
    assert [(one.tries, one.next_us) for one in await _waiting(store)] == [(1, 7)]
    await store.webhooks.record(
        [
            Outcome(
                status=DeliveryStatus.FAILED,
                tries=2,
                next_us=None,
                disables="gone",
                **values,  # type: ignore[arg-type]
            )
        ]
    )
    assert await _waiting(store) == []
    now = await store.webhooks.webhook("webhook-1")
    assert now is not None
    assert (now.is_enabled, now.disabled_reason) == (False, "gone")


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("webhook_reads.sql", name)
        for name in ("webhook", "webhooks", "delivery", "page", "page_status", "due", "newer")
    ]
    + [("webhook_writes.sql", name) for name in ("delete_deliveries", "redeliver")],
)
async def test_no_statement_scans_or_sorts_deliveries(
    store: SqliteStore, file: str, statement: str
) -> None:
    sql = statements(file)[statement]
    count = max(number for number in range(1, 6) if f"?{number}" in sql)
    rows = store._write_connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * count)
    steps = [row[3] for row in rows.fetchall()]
    assert not [step for step in steps if "SCAN deliveries" in step or "FOR ORDER BY" in step]

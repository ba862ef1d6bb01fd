"""A caller that leaves while its write is under way: memory and disk say the same afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from aitbc.v1 import webhooks_pb2
from aitbc_server.clock import SystemClock
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.errors import MinerNotOwned, QueueFull, StorageUnavailable
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.store.webhook_writes import AddWebhook, Redeliver
from aitbc_server.supervisor import Supervisor
from tests.factories import new_job, session, submission
from tests.integration.server.slow_disk import slow_disk
from tests.integration.server.test_webhooks import complete_one, create, following, serving
from tests.receiver import Receiver, status

MINER = MinerRecord(
    miner_id="miner-1",
    models=("m",),
    gpu_info=None,
    public_key=b"",
    agent_version="",
    registered_us=1,
    owner="a",
)
MOST_JOBS = 5

Call = Callable[["Bench"], Awaitable[object]]


class Bench:
    """A dispatcher over a store, with one miner."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.dispatcher = Dispatcher(
            store,
            SystemClock(),
            Supervisor(),
            lease_s=15,
            max_jobs=MOST_JOBS,
            spec_budget=0,
            text_budget=0,
            answer_bytes=2**20,
        )

    async def check(self) -> MinerRecord | None:
        """Memory and disk say the same of the miners; returns what they say of the one."""
        stored = {miner.miner_id: miner for miner in await self.store.miners()}
        registry = self.dispatcher.registry
        known = {miner_id: registry.get(miner_id) for miner_id in registry.ids()}
        assert known == stored
        one = self.dispatcher.core.sessions.by_miner.get(MINER.miner_id)
        if one is not None:
            assert one.is_drained is (stored[MINER.miner_id].drained_us is not None)
        return stored.get(MINER.miner_id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = SqliteStore(tmp_path)
    bench = Bench(store)
    await bench.dispatcher.start()
    yield bench
    bench.dispatcher.stop()
    await store.close()


def drain(bench: Bench) -> Awaitable[object]:
    return bench.dispatcher.drain(MINER.miner_id, drains=True)


def resume(bench: Bench) -> Awaitable[object]:
    return bench.dispatcher.drain(MINER.miner_id, drains=False)


def register(bench: Bench) -> Awaitable[object]:
    return bench.dispatcher.register(replace(MINER, models=("m", "n")))


def register_another(bench: Bench) -> Awaitable[object]:
    return bench.dispatcher.register(replace(MINER, miner_id="miner-2"))


def submit(bench: Bench) -> Awaitable[object]:
    return bench.dispatcher.submit(submission(new_job()))


@pytest.mark.parametrize("is_refused", [False, True])
@pytest.mark.parametrize("is_drained", [False, True])
@pytest.mark.parametrize("call", [drain, resume, register, register_another, submit])
async def test_memory_follows_the_disk(
    bench: Bench, call: Call, is_drained: bool, is_refused: bool
) -> None:
    await bench.dispatcher.open_session(session(MINER.miner_id), MINER, [])
    if is_drained:
        await drain(bench)
    with slow_disk(bench.store) as disk:
        calling = asyncio.ensure_future(call(bench))
        await disk.begun()
        calling.cancel()
        await asyncio.wait([calling])
        disk.go_on(is_refused=is_refused)
        # The next write is answered after it.
        await asyncio.wait([bench.store.probe()])
    assert calling.cancelled()
    await bench.check()
    assert len(bench.dispatcher.core.jobs) == len(await bench.store.live())
    assert len(bench.dispatcher.core.jobs) == (call is submit and not is_refused)


@pytest.mark.parametrize("call", [drain, resume, register, register_another, submit])
async def test_what_is_refused_changes_nothing_and_is_told(bench: Bench, call: Call) -> None:
    await bench.dispatcher.register(MINER)
    with slow_disk(bench.store) as disk:
        disk.go_on(is_refused=True)
        with pytest.raises(StorageUnavailable):
            await call(bench)
    assert await bench.check() == MINER
    assert not bench.dispatcher.core.jobs


@pytest.mark.parametrize("first_leaves", [False, True])
async def test_of_drains_that_cross_the_last_one_counts(bench: Bench, first_leaves: bool) -> None:
    await bench.dispatcher.register(MINER)
    with slow_disk(bench.store) as disk:
        crossing = [asyncio.ensure_future(call(bench)) for call in (drain, resume)]
        await disk.begun()
        if first_leaves:
            crossing[0].cancel()
        disk.go_on()
        await asyncio.wait(crossing)
    miner = await bench.check()
    assert miner is not None
    assert miner.drained_us is None


async def test_a_second_drain_keeps_the_time_of_the_first(bench: Bench) -> None:
    await bench.dispatcher.register(MINER)
    await drain(bench)
    first = await bench.check()
    await drain(bench)
    assert await bench.check() == first


@pytest.mark.parametrize("owners", [("a", "b"), ("b", "a"), ("a", "a")])
async def test_of_registrations_that_cross_the_first_one_counts(
    bench: Bench, owners: tuple[str, str]
) -> None:
    crossing = [replace(MINER, owner=owner, registered_us=at) for at, owner in enumerate(owners)]
    answers = await asyncio.gather(
        *(bench.dispatcher.register(one) for one in crossing), return_exceptions=True
    )
    assert answers[0] is None
    assert isinstance(answers[1], MinerNotOwned) is (owners[0] != owners[1])
    assert await bench.check() == crossing[0]


async def test_jobs_that_are_being_stored_count_as_held(bench: Bench) -> None:
    with slow_disk(bench.store) as disk:
        stored = [
            bench.dispatcher.submit(submission(new_job(), new_job())),
            bench.dispatcher.submit(submission(new_job(), new_job())),
        ]
        await disk.begun()
        with pytest.raises(QueueFull):
            bench.dispatcher.submit(submission(new_job(), new_job()))
        disk.go_on(is_refused=True)
        await asyncio.wait(stored)
    # What was refused is held no more.
    await bench.dispatcher.submit(submission(*(new_job() for _ in range(MOST_JOBS))))
    with pytest.raises(QueueFull):
        bench.dispatcher.submit(submission(new_job()))
    assert len(await bench.store.live()) == MOST_JOBS


# Webhooks


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    """One that answers 200, and one that does so at the second time."""
    both = [Receiver(status(200)), Receiver(status(500), status(200))]
    yield both
    for one in both:
        one.close()


async def _leave(
    calling: grpc.aio.UnaryUnaryCall[Any, Any], store: SqliteStore, kind: type[Any]
) -> None:
    with slow_disk(store, kind) as disk:
        sent = asyncio.ensure_future(calling)
        await disk.begun()
        calling.cancel()
        await asyncio.wait([sent])
        disk.go_on()
        await store.probe()


async def test_a_webhook_whose_owner_left_is_sent_what_happens(
    tmp_path: Path, receivers: list[Receiver]
) -> None:
    async with serving(tmp_path) as client:
        request = webhooks_pb2.CreateWebhookRequest(url=receivers[0].url, events=["job.completed"])
        await _leave(client.webhooks.CreateWebhook(request), client.coordinator._store, AddWebhook)
        job_id = await complete_one(client)
        assert job_id.encode() in (await following(receivers[0])).body


async def test_a_delivery_that_is_made_due_goes_out(
    tmp_path: Path, receivers: list[Receiver]
) -> None:
    async with serving(tmp_path, webhook_retry_seconds="3600") as client:
        webhook = await create(client, receivers[1].url)
        job_id = await complete_one(client)
        failed = await following(receivers[1])
        request = webhooks_pb2.RedeliverDeliveryRequest(
            webhook_id=webhook.webhook_id, delivery_id=failed.headers["webhook-id"]
        )
        calling = client.webhooks.RedeliverDelivery(request)
        await _leave(calling, client.coordinator._store, Redeliver)
        assert job_id.encode() in (await following(receivers[1])).body

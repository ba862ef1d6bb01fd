"""Whatever the store refuses, and whenever: no call hangs and no job is left behind."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from aitbc_server.clock import SystemClock
from aitbc_server.dispatch import turns
from aitbc_server.dispatch.live import LiveJob, Session
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import JobStatus
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.store.seam import Store
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.supervisor import Supervisor
from tests.factories import completion, new_job, session, submission

MINER = MinerRecord(
    miner_id="miner-1",
    models=("m",),
    gpu_info=None,
    public_key=b"",
    agent_version="",
    registered_us=1,
)


class RefusingStore:
    """A store that answers the next calls of a method with these errors."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.refusals: dict[str, list[Exception]] = defaultdict(list)
        # Jobs whose results are never taken.
        self.poison: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Future[Any]]:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Future[Any]:
            if name == "complete" and self.poison & {one.job_id for one in args[0]}:
                return _failed(ValueError("poison"))
            if self.refusals[name]:
                return _failed(self.refusals[name].pop(0))
            return cast("Future[Any]", method(*args, **kwargs))

        return call


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


class Bench:
    """A dispatcher over a store that refuses, with one miner."""

    def __init__(self, store: RefusingStore, disk: SqliteStore) -> None:
        self.store = store
        self.disk = disk
        self.supervisor = Supervisor()
        self.dispatcher = Dispatcher(
            cast("Store", store),
            SystemClock(),
            self.supervisor,
            lease_s=15,
            max_jobs=10,
            spec_budget=0,
            answer_bytes=2**20,
            text_budget=0,
        )
        self.woken = asyncio.Event()

    async def submit(self, **fields: Any) -> LiveJob:
        """Submits a job; returns it as the dispatcher knows it."""
        job = new_job(**fields)
        await self.dispatcher.submit(submission(job))
        return self.dispatcher.core.jobs[job.job_id]

    async def connect(self) -> Session:
        """Opens the miner's session."""
        opened = session("miner-1", heard_at=self.dispatcher.now().mono, wake=self.woken.set)
        await self.dispatcher.open_session(opened, MINER, [])
        return opened

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until what the miner is told makes the condition true."""
        async with asyncio.timeout(10):
            while not condition():
                self.woken.clear()
                await self.woken.wait()

    async def status(self, job_id: str) -> JobStatus:
        """Returns what the disk says."""
        record = await self.disk.job(job_id)
        assert record is not None
        return record.status

    async def final(self, job_id: str) -> JobStatus:
        """Returns what the disk says once the job is final."""
        await self.dispatcher.wait_final(job_id, 10)
        return await self.status(job_id)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(turns, "RETRY_S", 0.02)
    async with _bench(tmp_path) as one:
        yield one


@asynccontextmanager
async def _bench(directory: Path) -> AsyncIterator[Bench]:
    disk = SqliteStore(directory)
    one = Bench(RefusingStore(disk), disk)
    await one.dispatcher.start()
    yield one
    one.dispatcher.stop()
    await disk.close()


async def test_a_claim_that_is_not_stored_is_refused_and_may_be_repeated(bench: Bench) -> None:
    job = await bench.submit()
    await bench.dispatcher.register(MINER)
    bench.store.refusals["begin"] = [StorageUnavailable()]
    with pytest.raises(StorageUnavailable):
        await bench.dispatcher.claim(job, MINER)
    lease = await bench.dispatcher.claim(job, MINER)
    assert (lease.is_held, lease.attempt) == (True, 1)
    await bench.dispatcher.complete(lease, completion(job.job_id))
    assert await bench.final(job.job_id) is JobStatus.COMPLETED


async def test_an_assignment_that_is_not_stored_or_not_read_is_made_later(bench: Bench) -> None:
    bench.store.refusals["begin"] = [StorageUnavailable(), ValueError("rejected")]
    job = await bench.submit()
    opened = await bench.connect()
    await bench.until(lambda: opened.outbox.assignments)
    assert [lease.job for lease in opened.outbox.assignments] == [job]
    bench.store.refusals["specs"] = [StorageUnavailable()]
    with pytest.raises(StorageUnavailable):
        await bench.dispatcher.fetch(opened.outbox.assignments, 1)
    await bench.dispatcher.fetch(opened.outbox.assignments, 1)
    assert (
        bench.dispatcher.hand_over(opened.outbox.assignments[0], bench.dispatcher.now()) == b"spec"
    )
    assert await bench.status(job.job_id) is JobStatus.RUNNING


async def test_a_result_that_is_not_stored_is_told_and_stored_later(bench: Bench) -> None:
    job = await bench.submit()
    await bench.dispatcher.register(MINER)
    lease = await bench.dispatcher.claim(job, MINER)
    bench.store.refusals["complete"] = [StorageUnavailable()]
    with pytest.raises(StorageUnavailable):
        await bench.dispatcher.complete(lease, completion(job.job_id))
    assert await bench.final(job.job_id) is JobStatus.COMPLETED


async def test_a_result_that_is_rejected_fails_its_attempt_and_no_other(bench: Bench) -> None:
    good, bad = await bench.submit(), await bench.submit(max_attempts=1)
    opened = await bench.connect()
    await bench.until(lambda: len(opened.outbox.assignments) == 2)
    bench.store.poison = {bad.job_id}
    for job in (good, bad):
        bench.dispatcher.deliver(opened, 0, completion(job.job_id))
    assert await bench.final(good.job_id) is JobStatus.COMPLETED
    assert await bench.final(bad.job_id) is JobStatus.FAILED
    record = await bench.disk.job(bad.job_id)
    assert record is not None
    assert record.error_code == "RESULT_REJECTED"
    assert bench.dispatcher.core.jobs == {}


async def test_a_cancellation_while_the_lease_cannot_be_stored_holds(bench: Bench) -> None:
    job = await bench.submit()
    bench.store.refusals["begin"] = [StorageUnavailable()]
    await bench.connect()
    # The turn that the session asked for: it proposes the lease.
    await asyncio.sleep(0)
    assert job.lease is not None
    assert bench.dispatcher.cancel(job.job_id)
    assert await bench.final(job.job_id) is JobStatus.CANCELLED


async def test_a_cancellation_while_a_retry_is_being_stored_holds(bench: Bench) -> None:
    job = await bench.submit()
    opened = await bench.connect()
    await bench.until(lambda: opened.outbox.assignments)
    [lease] = opened.leases.values()
    bench.store.refusals["end"] = [StorageUnavailable()]
    bench.dispatcher.fail(opened, lease.lease_id, 0, code="X", message="x", retryable=True)
    assert bench.dispatcher.cancel(job.job_id)
    assert await bench.final(job.job_id) is JobStatus.CANCELLED
    record = await bench.disk.job(job.job_id)
    assert record is not None
    assert record.attempt == 1


async def test_the_end_of_a_wait_that_is_not_stored_is_stored_later(bench: Bench) -> None:
    job = await bench.submit()
    bench.store.refusals["end"] = [StorageUnavailable()] * 3
    assert bench.dispatcher.cancel(job.job_id)
    assert await bench.final(job.job_id) is JobStatus.CANCELLED


async def test_a_wish_to_cancel_that_is_not_stored_is_stored_later(bench: Bench) -> None:
    job = await bench.submit()
    opened = await bench.connect()
    await bench.until(lambda: opened.outbox.assignments)
    bench.store.refusals["flag_cancels"] = [StorageUnavailable()]
    assert bench.dispatcher.cancel(job.job_id)
    async with asyncio.timeout(10):
        while not [live for live in await bench.disk.live() if live.cancel_requested]:
            pass
    await bench.until(lambda: opened.outbox.cancellations)

"""When jobs are forgotten, and how many in one commit."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server import retention
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import OldJobs
from aitbc_server.retention import Retention
from aitbc_server.store.forgetting import BATCH_BYTES, BATCH_JOBS, batches
from aitbc_server.supervisor import Supervisor

NOW_US = 10**15


class FakeClock:
    """A clock that stands still."""

    def wall_us(self) -> int:
        return NOW_US

    def monotonic(self) -> float:
        return 0.0


class FakeJobs:
    """Jobs by id, with the time at which each ended; what fails first works afterwards."""

    def __init__(self, ends: Mapping[str, int], *, failures: int = 0) -> None:
        self.ends = dict(ends)
        self.unkept: set[str] = set()
        self.failures = failures
        self.error: Exception = StorageUnavailable()
        self.changed = asyncio.Event()
        self.erased = 0

    def old_jobs(self, before_us: int, *, after: str = "") -> Future[OldJobs]:
        part = [job_id for job_id in sorted(self.ends) if job_id > after][:100]
        old = {job_id: 1 for job_id in part if self.ends[job_id] < before_us}
        next_after = part[-1] if len(part) == 100 else None
        return self._answer(OldJobs(sizes=old, next_after=next_after))

    def unkept_jobs(self, before_us: int) -> Future[dict[str, int]]:
        return self._answer({job: 1 for job in self.unkept if self.ends[job] < before_us})

    def forget(self, job_ids: Sequence[str]) -> Future[frozenset[str]]:
        for job_id in job_ids:
            del self.ends[job_id]
            self.unkept.discard(job_id)
        self.changed.set()
        return self._answer(frozenset(job_ids))

    def erase(self) -> Future[bool]:
        self.erased += 1
        self.changed.set()
        return self._answer(self.erased > 1)

    def _answer(self, value: Any) -> Future[Any]:
        future: Future[Any] = asyncio.get_running_loop().create_future()
        if self.failures:
            self.failures -= 1
            future.set_exception(self.error)
        else:
            future.set_result(value)
        return future


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_SWEEP_S", 0.01)
    monkeypatch.setattr(retention, "_UNKEPT_SWEEP_S", 0.01)
    monkeypatch.setattr(retention, "_ERASE_S", 0.01)
    monkeypatch.setattr(retention, "_RETRY_S", 0.01)


@asynccontextmanager
async def running(
    jobs: FakeJobs, keep_s: float, supervisor: Supervisor | None = None
) -> AsyncIterator[Retention]:
    """Runs the retention of jobs."""
    one = Retention(jobs, FakeClock(), keep_s=keep_s)
    one.start(supervisor or Supervisor())
    try:
        yield one
    finally:
        await one.stop()


async def until(jobs: FakeJobs, is_so: Callable[[], bool]) -> None:
    """Waits for something that changes with the jobs."""
    async with asyncio.timeout(20):
        while not is_so():
            jobs.changed.clear()
            await jobs.changed.wait()


@pytest.mark.parametrize("failures", [0, 3])
async def test_jobs_are_forgotten_when_their_time_has_come(failures: int) -> None:
    old = {f"job-{number:04}": NOW_US - 11_000_000 for number in range(0, 500, 2)}
    young = {f"job-{number:04}": NOW_US - 9_000_000 for number in range(1, 500, 2)}
    jobs = FakeJobs(old | young, failures=failures)
    async with running(jobs, keep_s=10):
        await until(jobs, lambda: len(jobs.ends) <= len(young))
        jobs.ends["job-0000"] = NOW_US - 11_000_000
        await until(jobs, lambda: "job-0000" not in jobs.ends)
    assert jobs.ends == young


@pytest.mark.parametrize("failures", [0, 3])
async def test_jobs_that_are_not_kept_are_forgotten_when_whoever_waits_has_read(
    failures: int,
) -> None:
    ends = {"job-1": NOW_US - 31_000_000, "job-2": NOW_US - 29_000_000, "job-3": 0}
    jobs = FakeJobs(ends, failures=failures)
    jobs.unkept = {"job-1", "job-2"}
    async with running(jobs, keep_s=0):
        await until(jobs, lambda: "job-1" not in jobs.ends)
    assert set(jobs.ends) == {"job-2", "job-3"}


async def test_without_a_limit_nothing_is_forgotten_and_what_was_deleted_is_erased() -> None:
    jobs = FakeJobs({"job-1": 0})
    async with running(jobs, keep_s=0) as one:
        # After a start, and again because it could not be done.
        await until(jobs, lambda: jobs.erased == 2)
        one.forgotten()
        await until(jobs, lambda: jobs.erased == 3)
    assert jobs.ends == {"job-1": 0}


async def test_whatever_a_sweep_raises_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aitbc_server.supervisor._FIRST_PAUSE_S", 0.01)
    jobs = FakeJobs({"job-1": 0}, failures=4)
    jobs.error = RuntimeError("a bug")
    supervisor = Supervisor()
    async with running(jobs, 10, supervisor):
        await until(jobs, lambda: not jobs.ends and jobs.erased > 1)
    assert set(supervisor.faults) == {"retention-erase", "retention-sweep", "retention-unkept"}
    assert supervisor.faults.total() == 4


@given(st.lists(st.integers(0, 2 * BATCH_BYTES), max_size=300))
def test_each_commit_is_small_and_none_is_left_out(sizes: list[int]) -> None:
    jobs = {f"job-{number}": size for number, size in enumerate(sizes)}
    found = list(batches(jobs))
    assert [job_id for batch in found for job_id in batch] == list(jobs)
    for batch in found:
        assert 0 < len(batch) <= BATCH_JOBS
        assert len(batch) == 1 or sum(jobs[job_id] for job_id in batch) <= BATCH_BYTES

"""The dispatcher's asyncio shell: carries the core's effects to the store and its answers back.

Everything that happens in one turn of the event loop is one turn of the core, and becomes one write
of each kind. Nothing here awaits for one job: answers come back as callbacks on whole batches.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import structlog

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import CloseReason, Lease, LiveJob, Now, Phase, Session
from aitbc_server.dispatch.registry import Registry
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    JobAlreadyClaimed,
    QueueFull,
    StorageUnavailable,
)
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import Begin, Completion, Ending, JobStatus, Submission, Submitted
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.store.seam import Store

_log = structlog.get_logger(__name__)

# Seconds until a write that the storage refused is tried again.
_RETRY_S = 1.0
# Sequence that lies after every update of a lease: all of it is stored.
ALL = 2**53 - 1


class Dispatcher:
    """Takes jobs in, gives them to miners, and sees to it that what happens is stored first."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        lease_s: float,
        max_jobs: int,
        spec_budget: int,
    ) -> None:
        """`max_jobs`: live jobs held at most; `spec_budget`: bytes of their text kept in memory."""
        self.core = Core(lease_s=lease_s)
        self.registry = Registry((), self.core.sessions)
        self._store = store
        self._clock = clock
        self._max_jobs = max_jobs
        self._spec_budget = spec_budget
        self._loop = asyncio.get_running_loop()
        self._is_kicked = False
        self._timer: asyncio.TimerHandle | None = None
        # Set at each turn at whose end no session holds a lease.
        self._idle = asyncio.Event()
        self._final_waiters: dict[str, list[Future[None]]] = {}
        # Calls that wait for a lease to be stored, or its end, by lease id.
        self._begin_waiters: dict[str, Future[None]] = {}
        self._end_waiters: dict[str, list[Future[bool]]] = {}

    async def start(self) -> None:
        """Takes in what the store holds and begins to dispatch."""
        self.registry = Registry(await self._store.miners(), self.core.sessions)
        self.core.restore(await self._store.live(), self.now())
        self._kick()

    def stop(self) -> None:
        """Ends all timers. What is proposed already may still be stored."""
        self.core.is_draining = True
        if self._timer is not None:
            self._timer.cancel()

    async def wait_idle(self, timeout_s: float) -> None:
        """Returns when no stream has work under way, or after the timeout."""
        self._idle.clear()
        self._kick()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass

    def release_waiters(self) -> None:
        """Lets every `wait_final` return: the process is about to end."""
        for waiters in self._final_waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def now(self) -> Now:
        """Returns this instant."""
        return Now(self._clock.monotonic(), self._clock.wall_us())

    # Jobs

    async def submit(self, submission: Submission) -> Submitted:
        """Stores and queues jobs. Raises QueueFull, IdempotencyKeyReused, StorageUnavailable."""
        if len(self.core.jobs) + len(submission.jobs) > self._max_jobs:
            raise QueueFull(retry_after_s=5)
        # A callback, so that a caller that goes away cannot keep a stored job from its queue.
        return await self._store.submit(submission, partial(self._submitted, submission))

    async def wait_final(self, job_id: str, timeout_s: float) -> None:
        """Returns when the job is final, or after the timeout."""
        if job_id not in self.core.jobs:
            return
        future: Future[None] = self._loop.create_future()
        self._final_waiters.setdefault(job_id, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            waiters = self._final_waiters.get(job_id)
            if waiters and future in waiters:
                waiters.remove(future)
                if not waiters:
                    del self._final_waiters[job_id]

    def cancel(self, job_id: str) -> bool:
        """Asks for a cancellation; says whether the job was not final yet."""
        job = self.core.jobs.get(job_id)
        if job is None:
            return False
        self.core.cancel(job, self.now())
        self._kick()
        return True

    # Miners that poll

    def seen(self, miner_id: str) -> MinerRecord:
        """Notes a miner's call and returns the miner. Raises MinerNotFound."""
        record = self.registry.get(miner_id)
        self.registry.seen(miner_id, self.now())
        return record

    async def register(self, record: MinerRecord) -> None:
        """Stores a miner."""
        await asyncio.shield(self._store.register(record))
        self.registry.put(record)
        self.registry.seen(record.miner_id, self.now())

    async def claim(self, job: LiveJob, miner: MinerRecord) -> Lease:
        """Gives a job to a miner that asks for it. Raises JobAlreadyClaimed, ModelNotOffered."""
        lease = self.core.claim(job, miner.miner_id, miner.models, self.now())
        waiter = self._begin_waiters[lease.lease_id] = self._loop.create_future()
        self._kick()
        await asyncio.shield(waiter)
        if not lease.is_held:
            raise JobAlreadyClaimed("the job ended while it was being claimed")
        self.take_spec(job)
        return lease

    async def complete(self, lease: Lease, completion: Completion) -> bool:
        """Stores a result; says whether the lease was still its miner's."""
        if lease.is_held:
            self.core.complete(lease, completion)
        return await self._ended(lease)

    async def give_up(self, lease: Lease, *, code: str, message: str, retryable: bool) -> bool:
        """Ends an attempt without a result; says whether the lease was still its miner's."""
        if lease.is_held:
            self.core.give_up(
                lease, code=code, message=message, retryable=retryable, now=self.now()
            )
        return await self._ended(lease)

    def extend(self, lease: Lease) -> None:
        """Renews a claim. Raises LeaseLost."""
        try:
            self.core.extend(lease, self.now())
        finally:
            self._kick()

    # Miners on the Work stream

    async def open_session(
        self, session: Session, record: MinerRecord, held: Iterable[str]
    ) -> tuple[list[str], dict[str, int]]:
        """Begins a session; returns the held leases that are lost, and where each other stands."""
        await self.register(record)
        past = await self._past(held)
        session.heard_at = self._clock.monotonic()
        lost, kept = self.core.open_session(session, held, self.now())
        # The end of a lease that is being stored is acknowledged when it is.
        acks = {
            lease.lease_id: lease.next_sequence - (lease.phase is Phase.ENDING) for lease in kept
        }
        acks |= {lease_id: ALL for lease_id in lost if lease_id in past}
        self._kick()
        return [lease_id for lease_id in lost if lease_id not in past], acks

    def close_session(self, session: Session, reason: CloseReason) -> None:
        """Ends a session."""
        self.registry.seen(session.miner_id, self.now())
        self.core.close_session(session, reason, self.now())
        self._kick()

    def set_window(self, session: Session, window: int) -> None:
        """Takes a miner's new window."""
        self.core.set_window(session, window, self.now())
        self._kick()

    def deliver(self, session: Session, sequence: int, completion: Completion) -> None:
        """Takes a result from a stream."""
        self.core.deliver(session, sequence, completion)
        self._kick()

    def fail(
        self,
        session: Session,
        lease_id: str,
        sequence: int,
        *,
        code: str,
        message: str,
        retryable: bool,
    ) -> None:
        """Takes a failure from a stream."""
        self.core.fail(
            session,
            lease_id,
            sequence,
            code=code,
            message=message,
            retryable=retryable,
            now=self.now(),
        )
        self._kick()

    def take_spec(self, job: LiveJob) -> bytes:
        """Returns what was submitted, which the memory lets go of: the miner has it now."""
        spec, job.spec = job.spec or b"", None
        self._spec_budget += len(spec)
        return spec

    # The turn

    def _kick(self) -> None:
        if not self._is_kicked:
            self._is_kicked = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_kicked = False
        now = self.now()
        # 1. What is due, 2. new leases, 3. everything proposed in this turn to the store.
        self.core.tick(now)
        self.core.match(now)
        effects = self.core.take_effects()
        if effects.begins:
            self._put(self._store.begin, effects.begins, self._begun)
        if effects.completions:
            self._put(self._store.complete, effects.completions, self._completed)
        if effects.endings:
            self._put(self._store.end, effects.endings, self._endings_stored)
        if effects.flags:
            self._put(self._store.flag_cancels, effects.flags, self._flagged)
        # 4. What others wait for.
        for session in effects.touched:
            session.wake()
        for job_id in effects.finals:
            for waiter in self._final_waiters.pop(job_id, ()):
                if not waiter.done():
                    waiter.set_result(None)
        if not self._idle.is_set() and not any(s.leases for s in self.core.sessions.values()):
            self._idle.set()
        self._arm(now)

    def _arm(self, now: Now) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.core.next_timer()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - now.mono), self._kick)

    def _put(
        self,
        write: Callable[[Sequence[Any]], Future[Any]],
        items: Sequence[Any],
        answer: Callable[[Sequence[Any], Future[Any]], None],
    ) -> None:
        try:
            future = write(items)
        except StorageUnavailable as error:
            future = self._loop.create_future()
            future.set_exception(error)
        future.add_done_callback(partial(answer, items))

    # Answers of the store

    def _submitted(self, submission: Submission, stored: Submitted | Exception) -> None:
        if isinstance(stored, Exception) or not stored.is_new:
            return
        now = self.now()
        for new in submission.jobs:
            job = LiveJob(
                job_id=new.job_id,
                owner=new.owner,
                model=new.model,
                priority=new.priority,
                created_us=new.created_us,
                max_attempts=new.max_attempts,
                max_tokens=new.max_tokens,
                deadline_us=new.deadline_us,
            )
            self._keep_spec(job, new.spec)
            self.core.submit(job, now)
        self._kick()

    def _keep_spec(self, job: LiveJob, spec: bytes) -> None:
        if self._spec_budget >= len(spec):
            self._spec_budget -= len(spec)
            job.spec = spec

    def _begun(self, begins: Sequence[Begin], stored: Future[frozenset[str]]) -> None:
        if stored.exception() is not None:
            self.core.begin_failed(begins, _RETRY_S, self.now())
            self._kick()
            return
        missing = [b.job_id for b in begins if self.core.jobs[b.job_id].spec is None]
        if missing:
            self._put(self._store.specs, missing, partial(self._specs_read, begins, stored))
        else:
            self._tell_begun(begins, stored.result())

    def _specs_read(
        self,
        begins: Sequence[Begin],
        stored: Future[frozenset[str]],
        job_ids: Sequence[str],
        read: Future[dict[str, bytes]],
    ) -> None:
        if read.exception() is not None:
            self._loop.call_later(_RETRY_S, self._begun, begins, stored)
            return
        for job_id, spec in read.result().items():
            self._spec_budget -= len(spec)
            self.core.jobs[job_id].spec = spec
        self._tell_begun(begins, stored.result())

    def _tell_begun(self, begins: Sequence[Begin], done: frozenset[str]) -> None:
        self.core.begun(begins, done, self.now())
        for begin in begins:
            waiter = self._begin_waiters.pop(begin.lease_id, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._kick()

    def _completed(self, completions: Sequence[Completion], stored: Future[frozenset[str]]) -> None:
        if self._retry(self._store.complete, completions, stored, self._completed):
            return
        done = _result(stored)
        self.core.completed(completions, done)
        self._resolve_ends(completions, done)
        self._kick()

    def _endings_stored(self, endings: Sequence[Ending], stored: Future[frozenset[str]]) -> None:
        if self._retry(self._store.end, endings, stored, self._endings_stored):
            return
        done = _result(stored)
        for ending in endings:
            if ending.status is not JobStatus.PENDING:
                self.take_spec(self.core.jobs[ending.job_id])
        self.core.ended(endings, done, self.now())
        self._resolve_ends(endings, done)
        self._kick()

    def _flagged(self, flags: Sequence[tuple[str, int]], stored: Future[None]) -> None:
        self._retry(self._store.flag_cancels, flags, stored, self._flagged)

    def _retry(
        self,
        write: Callable[[Sequence[Any]], Future[Any]],
        items: Sequence[Any],
        stored: Future[Any],
        answer: Callable[[Sequence[Any], Future[Any]], None],
    ) -> bool:
        # Guarded writes may be repeated: what was applied already is not applied again.
        if not isinstance(stored.exception(), StorageUnavailable):
            return False
        self._loop.call_later(_RETRY_S, self._put, write, items, answer)
        return True

    # Waiting

    async def _ended(self, lease: Lease) -> bool:
        waiter: Future[bool] = self._loop.create_future()
        self._end_waiters.setdefault(lease.lease_id, []).append(waiter)
        self._kick()
        return await asyncio.shield(waiter)

    def _resolve_ends(
        self, ends: Sequence[Completion] | Sequence[Ending], done: frozenset[str]
    ) -> None:
        for end in ends:
            for waiter in self._end_waiters.pop(end.lease_id or "", ()):
                if not waiter.done():
                    waiter.set_result(end.job_id in done)

    async def _past(self, held: Iterable[str]) -> frozenset[str]:
        """Returns which of the leases ended with a result, however long ago."""
        by_job = {
            job_id: lease_id
            for lease_id in held
            if lease_id not in self.core.leases.by_id and (job_id := job_of_lease(lease_id))
        }
        if not by_job:
            return frozenset()
        facts = await self._store.leases(list(by_job))
        return frozenset(
            lease_id
            for job_id, (status, lease_id, _) in facts.items()
            if status.is_final and by_job[job_id] == lease_id
        )


def _result(stored: Future[frozenset[str]]) -> frozenset[str]:
    error = stored.exception()
    if error is not None:
        # The store has logged it. Nothing was applied.
        return frozenset()
    return stored.result()

"""The dispatcher: what the services call. The core decides, the store keeps, this passes on."""

from __future__ import annotations

from asyncio import Future
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from aitbc_server.dispatch.answer_bounds import ANSWER_REFUSED, AnswerBounds
from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.enrolment import Enrolment
from aitbc_server.dispatch.extras import size_of
from aitbc_server.dispatch.leases import decrement
from aitbc_server.dispatch.live import CloseReason, Lease, LiveJob, Now, Phase, Session
from aitbc_server.dispatch.observer import Observers
from aitbc_server.dispatch.pauses import ToldPause
from aitbc_server.dispatch.refusals import Refusal
from aitbc_server.dispatch.registry import Registry
from aitbc_server.dispatch.sessions import Patience
from aitbc_server.dispatch.specs import Specs
from aitbc_server.dispatch.transcripts import Transcripts
from aitbc_server.dispatch.turns import Turns
from aitbc_server.dispatch.waiters import Waiters
from aitbc_server.dispatch.waiting import Wait, explain
from aitbc_server.dispatch.wanting import is_left, join, leave
from aitbc_server.domain.asks import Asks
from aitbc_server.domain.call import Call, current_call
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    InvalidArgument,
    JobAlreadyClaimed,
    MinerDrained,
    PayloadTooLarge,
    QueueFull,
)
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import Completion, Fault, JobStatus, Submission, Submitted
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.domain.parts import NO_PARTS, Parts
from aitbc_server.domain.plausibility import NOTHING_BESIDE, Told, bytes_in
from aitbc_server.domain.tasks import Task
from aitbc_server.store.seam import Store
from aitbc_server.supervisor import Supervisor

# Sequence that lies after every update of a lease: all of it is stored.
ALL = 2**53 - 1
# What nobody asks.
# Jobs read at once for a miner.
_MOST_FETCHED = 256


class Dispatcher:
    """Takes jobs in, gives them to miners, and sees to it that what happens is stored first."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        supervisor: Supervisor,
        *,
        lease_s: float,
        patience: Patience | None = None,
        poison_after: int = 2,
        max_jobs: int,
        spec_budget: int,
        text_budget: int,
        answer_bytes: int,
    ) -> None:
        """Keeps limits.

        `poison_after`: miner processes that may vanish with a job before it is set aside;
        `max_jobs`: live jobs held at most; `spec_budget`, `text_budget`: bytes kept in memory of
        what was asked and of what running jobs have answered; `answer_bytes`: what one answer may
        have.
        """
        self.core = Core(lease_s=lease_s, patience=patience, poison_after=poison_after)
        self.registry = Registry((), self.core.sessions)
        self._store = store
        self._max_jobs = max_jobs
        # Jobs that are being stored: by account, and all.
        self._submitting: Counter[str] = Counter()
        self._storing = 0
        self._enrolment = Enrolment(store, self.registry, self.core)
        self._specs = Specs(spec_budget)
        self._waiters = Waiters()
        self._bounds = AnswerBounds(answer_bytes)
        self.transcripts = Transcripts(text_budget, self.core.jobs)
        # Told of what was stored.
        self.observers = Observers(supervisor)
        self._turns = Turns(
            self.core,
            store,
            clock,
            self._specs,
            self._waiters,
            self.transcripts,
            self.observers,
            supervisor,
        )

    async def start(self) -> None:
        """Takes in what the store holds and begins to dispatch."""
        self.registry = Registry(await self._store.miners(), self.core.sessions)
        self._enrolment = Enrolment(self._store, self.registry, self.core)
        self.core.restore(await self._store.live(), self.now())
        self._turns.kick()

    def stop(self) -> None:
        """Ends all timers. What is proposed already may still be stored."""
        self.core.is_draining = True
        self._turns.stop()

    async def wait_idle(self, timeout_s: float) -> None:
        """Returns when no stream has work under way, or after the timeout."""
        await self._turns.wait_idle(timeout_s)

    def release_waiters(self) -> None:
        """Lets every `wait_final` return and every stream end: the process is about to end."""
        self._waiters.release()
        self.transcripts.close()

    def now(self) -> Now:
        """Returns this instant."""
        return self._turns.now()

    # Jobs

    def submit(self, submission: Submission) -> Future[Submitted]:
        """Stores and queues jobs. Raises QueueFull, IdempotencyKeyReused, StorageUnavailable.

        Raises InvalidArgument for more jobs than there may be, and PayloadTooLarge for more bytes
        than their caller may store.
        """
        count = len(submission.jobs)
        if count > self._max_jobs:
            raise InvalidArgument("jobs", f"must be at most {self._max_jobs:,}")
        if 0 < submission.most_bytes < submission.size:
            raise PayloadTooLarge(submission.most_bytes)
        if len(self.core.jobs) + self._storing + count > self._max_jobs:
            raise QueueFull(retry_after_s=5)
        # A callback, so that a caller that goes away cannot keep a stored job from its queue.
        then = partial(self._submitted, submission, current_call.get())
        stored = self._store.submit(submission, then)
        self._submitting[submission.account] += count
        self._storing += count
        return stored

    def jobs_of(self, account: str) -> tuple[int, int]:
        """Returns how many jobs of an account are not final, and how many of these wait."""
        live = self.core.live_by_account[account] + self._submitting[account]
        return live, live - self.core.leases.by_account[account]

    async def wait_final(self, job_id: str, timeout_s: float) -> None:
        """Returns when the job is final, or after the timeout. Raises TooManyWaiting."""
        job = self.core.jobs.get(job_id)
        if job is not None:
            with self.reading(job):
                await self._waiters.final(job_id, timeout_s)

    @contextmanager
    def reading(self, job: LiveJob) -> Iterator[None]:
        """Counts a call that waits for a job or follows it: while there is one, somebody waits."""
        job.readers += 1
        try:
            yield
        except BaseException:
            job.readers -= 1
            # It has left. After a timeout it may come again.
            if is_left(job) and self.core.jobs.get(job.job_id) is job:
                self._cancel(job, is_abandoned=True)
            raise
        job.readers -= 1

    def join(self, found: Iterable[tuple[str, JobStatus]]) -> str | None:
        """Notes that a request waits for the jobs that it found, unless one of them is leaving.

        Returns that one's id: it ends because nobody waited for it, or ended in this moment.
        """
        return join(self.core.jobs, found)

    def cancel(self, job_id: str) -> bool:
        """Asks for a cancellation; says whether the job was not final yet."""
        return self._cancel(self.core.jobs.get(job_id), is_abandoned=False)

    def abandon(self, job_id: str) -> bool:
        """Notes that a request waits no longer; says whether the job is cancelled for that."""
        job = self.core.jobs.get(job_id)
        return job is not None and leave(job) and self._cancel(job, is_abandoned=True)

    def explain(self, job: LiveJob) -> Wait:
        """Returns why a job waits."""
        return explain(self.core, self.registry, job, self.now())

    def are_known_for(self, model: str) -> bool:
        """Says whether any registered miner has a model, here now or not."""
        return bool(self.registry.having(model))

    def served_models(self) -> Collection[str]:
        """Returns the models that miners which are here have."""
        return self.core.sessions.census.models(self.now()).keys()

    async def fetch(self, leases: Sequence[Lease], most_bytes: int) -> None:
        """Reads what was submitted of the first of these leases, where memory does not have it.

        Raises StorageUnavailable.
        """
        first = leases[:_MOST_FETCHED]
        jobs = {lease.job.job_id: lease.job for lease in first if lease.job.spec is None}
        if not jobs:
            return
        specs = await self._store.specs(list(jobs), most_bytes=most_bytes)
        for job_id, spec in specs.items():
            job = jobs[job_id]
            # Meanwhile it may have ended, or somebody else may have read it.
            if job.spec is None and self.core.jobs.get(job_id) is job:
                self._specs.put(job, spec)

    def hand_over(self, lease: Lease, now: Now) -> bytes:
        """Returns what was submitted, for its miner, which the memory lets go of."""
        spec = self._specs.take(lease.job)
        self.core.sessions.told(lease, len(spec), now)
        return spec

    # Miners that poll

    def seen(self, miner_id: str, caller: Caller) -> MinerRecord:
        """Notes a miner's call and returns the miner. Raises MinerNotFound, MinerNotOwned."""
        record = self.registry.get(miner_id)
        record.check_owner(caller)
        self.registry.seen(miner_id, self.now())
        return record

    def available(self, miner: MinerRecord, count: int) -> list[LiveJob]:
        """Returns the jobs that a miner could claim, the next one first."""
        return [] if miner.drained_us is not None else self.core.available(miner.models, count)

    async def drain(self, miner_id: str, *, drains: bool) -> None:
        """Begins or ends the drain of a miner. Raises MinerNotFound and StorageUnavailable."""
        self.registry.get(miner_id)
        since_us = self.now().wall_us if drains else None
        # Whatever memory says: the last of those that are under way counts.
        await self._store.drain(miner_id, since_us, partial(self._drained, miner_id, since_us))

    async def register(self, record: MinerRecord, *, most: int = 0) -> None:
        """Stores a miner, of which its owner has at most so many; 0 is no limit.

        Raises TooManyMiners, and MinerNotOwned when another owner's registration was first.
        """
        await self._enrolment.register(record, most=most)
        self.registry.seen(record.miner_id, self.now())

    async def remove_miner(self, miner_id: str, caller: Caller) -> None:
        """Removes a miner. Raises MinerNotFound, MinerNotOwned, MinerInUse, StorageUnavailable."""
        self.registry.get(miner_id).check_owner(caller)
        await self._enrolment.remove(miner_id)

    async def expire_miners(self, before_us: int) -> int:
        """Removes miners that nobody has heard of since a time; returns how many.

        Raises StorageUnavailable.
        """
        return await self._enrolment.expire(before_us, self.now())

    async def claim(self, job: LiveJob, miner: MinerRecord) -> Lease:
        """Gives a job to a miner that asks for it.

        Raises MinerDrained, JobAlreadyClaimed, ModelNotOffered and StorageUnavailable.
        """
        if miner.drained_us is not None:
            raise MinerDrained
        lease = self.core.claim(job, miner.miner_id, miner.models, self.now())
        self._turns.kick()
        await self._waiters.begun(lease.lease_id)
        if not lease.is_held:
            raise JobAlreadyClaimed("the job ended while it was being claimed")
        self._specs.take(job)
        return lease

    async def complete(self, lease: Lease, completion: Completion) -> bool:
        """Stores a result; says whether the lease was still its miner's.

        Raises StorageUnavailable while it is not stored yet.
        """
        if lease.is_held:
            self.core.complete(lease, completion)
        self._turns.kick()
        return await self._waiters.ended(lease.lease_id)

    async def give_up(self, lease: Lease, *, code: str, message: str, retryable: bool) -> bool:
        """Ends an attempt without a result; says whether the lease was still its miner's.

        Raises StorageUnavailable while it is not stored yet.
        """
        if lease.is_held:
            self.core.give_up(
                lease, code=code, message=message, retryable=retryable, now=self.now()
            )
        self._turns.kick()
        return await self._waiters.ended(lease.lease_id)

    def extend(self, lease: Lease) -> None:
        """Renews a claim. Raises LeaseLost."""
        try:
            self.core.extend(lease, self.now())
        finally:
            self._turns.kick()

    # Miners on the Work stream

    async def open_session(
        self, session: Session, record: MinerRecord, held: Iterable[str], *, most: int = 0
    ) -> tuple[list[str], dict[str, int]]:
        """Begins a session; returns the held leases that are lost, and where each other stands.

        Raises as `register`.
        """
        with self._enrolment.kept(session.miner_id):
            await self.register(record, most=most)
            past = await self._past(held)
            now = self.now()
            session.heard_at = now.mono
            session.is_drained = self.registry.is_drained(session.miner_id)
            lost, kept = self.core.sessions.open(session, held, now)
        # The end of a lease that is being stored is acknowledged when it is.
        acks = {
            lease.lease_id: lease.next_sequence - (lease.phase is Phase.ENDING) for lease in kept
        }
        acks |= {lease_id: ALL for lease_id in lost if lease_id in past}
        self._turns.kick()
        return [lease_id for lease_id in lost if lease_id not in past], acks

    def close_session(self, session: Session, reason: CloseReason) -> None:
        """Ends a session."""
        now = self.now()
        self.core.sessions.close(session, reason, now)
        self.registry.left(session.miner_id, now)
        self._turns.kick()

    def set_window(self, session: Session, window: int, told: Iterable[ToldPause] = ()) -> None:
        """Takes a miner's new window, and the models that it cannot serve at present."""
        self.core.sessions.set_window(session, window, self.now(), told)
        self._turns.kick()

    def progress(
        self,
        session: Session,
        lease_id: str,
        sequence: int,
        text: str,
        tokens: int,
        parts: Parts = NO_PARTS,
    ) -> None:
        """Takes more of an answer from a stream."""
        is_empty = not text and tokens <= 0 and parts == NO_PARTS
        is_thought = bool(parts.reasoning) and not text
        lease = self.core.sessions.progress(
            session, lease_id, sequence, tokens, is_empty=is_empty, is_thought=is_thought
        )
        if lease is None:
            return
        size = bytes_in(text)
        refusal = None
        if parts is not NO_PARTS:
            size += size_of(parts)
            if not self.transcripts.follows(lease.job.job_id, sequence, parts.calls):
                refusal = Refusal(ANSWER_REFUSED, "told of a call that it had not begun")
        # The one numbered 0 tells the answer from its beginning.
        lease.said_bytes = lease.said_bytes + size if sequence else size
        refusal = refusal or self._bounds.refusal_of_size(lease, lease.said_bytes)
        if refusal is None:
            self.transcripts.extend(
                lease.job.job_id, sequence, text, tokens, parts, miner_id=lease.miner_id
            )
        else:
            self.refuse(session, lease_id, refusal)

    def asked_by(self, session: Session, lease_id: str) -> tuple[Task, Asks] | None:
        """Returns what is asked under a lease, as far as it bounds the answer.

        None when the session may not change the lease now; it is told where the lease stands.
        """
        lease = self.core.sessions.lease_of(session, lease_id)
        if lease is None:
            self._turns.kick()
            return None
        return lease.job.task, lease.job.asks

    def deliver(
        self,
        session: Session,
        sequence: int,
        completion: Completion,
        told: Told = NOTHING_BESIDE,
    ) -> None:
        """Takes a result from a stream. `told`: what it has beside its text."""
        lease = self.core.leases.by_id.get(completion.lease_id)
        refusal = None if lease is None else self._bounds.refusal_of(lease, completion, told)
        if refusal is not None:
            self.refuse(session, completion.lease_id, refusal)
            return
        if lease is not None and sequence:
            # One whose first update is its result has begun anew.
            resumed = self.transcripts.resumed(lease.job.job_id, lease.miner_id, completion.result)
            completion = completion._replace(resumed=resumed) if resumed else completion
        self.core.sessions.deliver(session, sequence, completion)
        self._turns.kick()

    def cannot_take(self, session: Session, lease: Lease) -> None:
        """Ends a lease on a job that is larger than its miner takes: another one may."""
        self.core.sessions.cannot_take(session, lease, self.now())
        self._turns.kick()

    def refuse(self, session: Session, lease_id: str, refusal: Refusal) -> None:
        """Takes no answer from a stream that cannot be taken; the job is tried again."""
        self.core.sessions.refuse(session, lease_id, refusal, self.now())
        self._turns.kick()

    def fail(
        self,
        session: Session,
        lease_id: str,
        sequence: int,
        *,
        code: str,
        message: str,
        retryable: bool,
        fault: Fault = Fault.UNSPECIFIED,
        retry_after_s: float = 0.0,
    ) -> None:
        """Takes a failure from a stream. What came before it is not for another miner to go on."""
        lease = self.core.leases.by_id.get(lease_id)
        if lease is not None and lease.session is session:
            self.transcripts.distrust(lease.job.job_id)
        self.core.sessions.fail(
            session,
            lease_id,
            sequence,
            code=code,
            message=message,
            retryable=retryable,
            fault=fault,
            retry_after_s=retry_after_s,
            now=self.now(),
        )
        self._turns.kick()

    # Inside

    def _cancel(self, job: LiveJob | None, *, is_abandoned: bool) -> bool:
        if job is None:
            return False
        self.core.cancel(job, self.now(), is_abandoned=is_abandoned)
        self._turns.kick()
        return True

    def _drained(self, miner_id: str, since_us: int | None, stored: Exception | None) -> None:
        if stored is not None:
            return
        self.registry.drain(miner_id, since_us)
        session = self.core.sessions.by_miner.get(miner_id)
        if session is not None:
            self.core.sessions.drain(session, since_us is not None, self.now())
            self._turns.kick()

    def _submitted(self, submission: Submission, call: Call, stored: Submitted | Exception) -> None:
        decrement(self._submitting, submission.account, len(submission.jobs))
        self._storing -= len(submission.jobs)
        if isinstance(stored, Exception) or not stored.is_new:
            return
        now = self.now()
        for new in submission.jobs:
            job = LiveJob(
                job_id=new.job_id,
                owner=new.owner,
                account=submission.account,
                model=new.model,
                priority=new.priority,
                created_us=new.created_us,
                max_attempts=new.max_attempts,
                max_tokens=new.max_tokens,
                task=new.task,
                asks=new.asks,
                affinity=new.affinity,
                deadline_us=new.deadline_us,
            )
            self._specs.keep(job, new.spec)
            self.core.submit(job, now)
        self.observers.submitted(submission.jobs, call)
        self._turns.kick()

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

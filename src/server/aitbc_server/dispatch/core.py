"""The dispatcher without I/O: events in as method calls, effects out in `effects`.

It is the authority on every job that is not final. A change is first proposed (an effect), then
stored by the shell, and takes hold when the store's answer comes back (`begun`, `completed`,
`ended`): nobody is told of what is not on disk. Between proposal and answer the lease's phase keeps
everything else off it.

Time and what happened come in as arguments; the core never reads a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.endings import NOT_DELIVERED, end_of_wait
from aitbc_server.dispatch.leases import decrement
from aitbc_server.dispatch.leasing import Leasing
from aitbc_server.dispatch.live import CancelReason, Lease, LiveJob, Now, Phase, Session
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.dispatch.sessions import Patience, Sessions
from aitbc_server.dispatch.timers import Timers
from aitbc_server.dispatch.vanishing import Vanishing
from aitbc_server.domain.errors import JobAlreadyClaimed, LeaseLost, ModelNotOffered
from aitbc_server.domain.jobs import (
    Begin,
    Completion,
    Ending,
    JobStatus,
    LiveRecord,
    claim_duration_s,
    retry_delay_s,
)
from aitbc_server.domain.tasks import Task

# How long a job that is tried again waits for another miner than those that failed it, while others
# that serve its model are there but busy.
_PATIENCE_S = 30.0


class Core:
    """Jobs, leases and sessions that are not over, and the rules by which they meet."""

    def __init__(
        self, *, lease_s: float, patience: Patience | None = None, poison_after: int = 2
    ) -> None:
        """`lease_s`: how long a lease lasts after its miner was last heard.

        `poison_after`: a job with which so many miner processes vanished is set aside.
        """
        self.effects = Effects()
        self.jobs: dict[str, LiveJob] = {}
        self.is_draining = False
        self.live_by_model: Counter[str] = Counter()
        self.live_by_account: Counter[str] = Counter()
        self._matcher = Matcher()
        self._timers = Timers()
        self._deadlines = self._timers.calling(self._check_deadline)
        self._wakes = self._timers.calling(self._wake)
        self._reconsiders = self._timers.calling(self._reconsider)
        by_miner: dict[str, Session] = {}
        vanishing = Vanishing(by_miner, poison_after=poison_after)
        self._leasing = Leasing(
            self.effects, self._matcher, self._timers, vanishing, lease_s=lease_s
        )
        # Those that are not over.
        self.leases = self._leasing.book
        self.sessions = Sessions(
            self.effects,
            self._leasing,
            self._matcher,
            self._timers,
            patience or Patience(),
            by_miner,
        )

    # Jobs

    def submit(self, job: LiveJob, now: Now) -> None:
        """Takes in a job that is stored as pending."""
        self._add(job, now)
        self._matcher.push(job)

    def restore(self, records: Iterable[LiveRecord], now: Now) -> None:
        """Takes in what a store holds at the start. Leases wait for their miners to come back."""
        for record in records:
            job = LiveJob.of(record)
            self._add(job, now)
            if record.lease_id is None or record.miner_id is None:
                job.awaits_miners = True
                self._queue(job, record.not_before_us, self._leasing.lease_s, now)
                continue
            lease = Lease(
                lease_id=record.lease_id,
                job=job,
                miner_id=record.miner_id,
                attempt=record.attempt,
                started_us=record.started_us or now.wall_us,
                phase=Phase.HELD,
                claim_s=record.claim_s,
                spec_bytes=record.spec_bytes,
            )
            self.leases.add(lease)
            lease_s = max(self._leasing.lease_s, record.claim_s or 0.0)
            self._leasing.expire_after(lease, lease_s, now)

    def cancel(self, job: LiveJob, now: Now, *, is_abandoned: bool = False) -> None:
        """Asks for a job's cancellation; whatever end is being stored already goes first."""
        if job.is_ending or job.cancel_requested:
            return
        job.cancel_requested, job.is_abandoned = True, is_abandoned
        lease = job.lease
        if lease is None:
            self._end_wait(job, "CANCELLED", "", now)
            return
        if lease.phase is Phase.ENDING:
            # Unless it ends the job, `ended` sees to it.
            return
        self.effects.flags.append((job.job_id, now.wall_us, is_abandoned))
        if lease.is_held:
            self._leasing.tell(lease, CancelReason.REQUESTED)
        # No longer renewed: a miner that does not answer loses it.
        self._leasing.expire_after(lease, self._leasing.lease_s, now)

    def available(self, models: Iterable[str], count: int) -> list[LiveJob]:
        """Returns the jobs that a miner of these models could claim, the next one first.

        Miners that poll only generate, and the lanes of such jobs have the models' names.
        """
        return self._matcher.peek(models, count)

    def ahead_of(self, job: LiveJob) -> int:
        """Returns how many jobs of its lane go before a job that waits."""
        return self._matcher.ahead_of(job)

    def is_parked(self, job: LiveJob) -> bool:
        """Whether a job waits for another miner than those that failed it."""
        return self._matcher.is_parked(job)

    # Claims: leases of miners that poll

    def claim(self, job: LiveJob, miner_id: str, models: Sequence[str], now: Now) -> Lease:
        """Proposes a lease for a miner that asked for this job.

        Raises ModelNotOffered and JobAlreadyClaimed.
        """
        if job.model not in models:
            raise ModelNotOffered("miner_id", f"the miner does not offer the model {job.model}")
        if job.task is not Task.GENERATE:
            raise ModelNotOffered("miner_id", f"a miner that polls takes no job to {job.task}")
        if job.lease is not None or job.is_ending:
            raise JobAlreadyClaimed("a miner holds this job already")
        self._matcher.take(job)
        self._wakes.cancel(job.job_id)
        claim_s = claim_duration_s(job.max_tokens)
        lease = self._leasing.propose(job, miner_id, now, claim_s=claim_s)
        self._leasing.expire_after(lease, claim_s, now)
        return lease

    def extend(self, lease: Lease, now: Now) -> None:
        """Renews a claim. Raises LeaseLost when it ends instead, because of a cancellation."""
        if lease.phase is Phase.ENDING:
            raise LeaseLost("the lease is ending")
        if lease.job.cancel_requested:
            self._leasing.end(lease, "CANCELLED", "", now, retryable=False)
            raise LeaseLost("the job was cancelled by its client")
        if lease.claim_s is not None:
            lease.expires_at = now.mono + lease.claim_s

    def complete(self, lease: Lease, completion: Completion) -> None:
        """Proposes the completion of a held lease."""
        self._leasing.complete(lease, completion)

    def give_up(self, lease: Lease, *, code: str, message: str, retryable: bool, now: Now) -> None:
        """Proposes the end of a held lease without a result."""
        self._leasing.end(lease, code, message, now, retryable=retryable)

    # Time

    def next_timer(self) -> float | None:
        """Returns when `tick` has something to do (monotonic), or None."""
        return self._timers.next()

    @property
    def timer_entries(self) -> int:
        """How many timers are kept, some that were withdrawn included."""
        return len(self._timers)

    def tick(self, now: Now) -> None:
        """Does what is due."""
        self._timers.run(now)

    def match(self, now: Now) -> None:
        """Proposes leases while there are jobs and miners with room."""
        if self.is_draining:
            return
        for job, session in self._matcher.pairs(now):
            self._leasing.propose(job, session.miner_id, now, session=session)

    # Answers of the store

    def begun(self, begins: Sequence[Begin], done: frozenset[str], now: Now) -> None:
        """Leases are stored: tells the miners. `done`: jobs that took theirs."""
        for begin in begins:
            lease = self.leases.by_id[begin.lease_id]
            if begin.job_id not in done:
                # Somebody else changed the database: believe it.
                self._leasing.detach(lease)
                self._forget(lease.job)
                continue
            lease.phase = Phase.HELD
            if lease.job.cancel_requested:
                self._leasing.end(lease, "CANCELLED", "", now, retryable=False)
            elif lease.job.is_overdue(now):
                self._check_deadline(begin.job_id, now)
            elif lease.session is not None and lease.session.room_for(lease.job.model) < 0:
                # The window has shrunk since, or the model is held back.
                self._leasing.withdraw(lease, now)
            elif lease.session is not None:
                lease.session.outbox.assignments.append(lease)
                self.effects.touched[lease.session] = None
            elif lease.claim_s is None:
                self._leasing.give_back(lease, now)

    def begin_failed(self, begins: Sequence[Begin], retry_s: float, now: Now) -> None:
        """Leases could not be stored: the jobs wait for a while."""
        for begin in begins:
            lease = self.leases.by_id[begin.lease_id]
            self._leasing.detach(lease)
            lease.job.attempt -= 1
            if not self._is_over(lease.job, now):
                lease.job.not_before_us = now.wall_us + int(retry_s * 1e6)
                self._wakes.set(begin.job_id, now.mono + retry_s)

    def completed(self, completions: Sequence[Completion], done: frozenset[str]) -> None:
        """Results are stored: acknowledges them. `done`: jobs that took theirs."""
        for completion in completions:
            lease = self.leases.by_id[completion.lease_id]
            session = self._leasing.detach(lease)
            self._forget(lease.job)
            if completion.job_id in done:
                self.effects.finals.append(completion.job_id)
                self._leasing.acknowledge(session, lease)
            elif session is not None:
                session.outbox.cancellations[lease.lease_id] = CancelReason.LEASE_LOST
                self.effects.touched[session] = None

    def completion_rejected(self, completion: Completion, now: Now) -> None:
        """A result that the store cannot take ends the attempt: the job must not hang on it."""
        lease = self.leases.by_id[completion.lease_id]
        message = "the coordinator could not store the result"
        self._leasing.end(lease, "RESULT_REJECTED", message, now, retryable=True)

    def ended(self, endings: Sequence[Ending], done: frozenset[str], now: Now) -> None:
        """Ends without a result are stored. `done`: jobs that they applied to."""
        for ending in endings:
            job = self.jobs[ending.job_id]
            lease = job.lease
            if lease is not None:
                self._leasing.acknowledge(self._leasing.detach(lease), lease)
            if ending.status is JobStatus.PENDING and ending.job_id in done:
                self._take_back(job, lease, ending, now)
                continue
            self._forget(job)
            self.effects.finals.append(job.job_id)

    # Inside

    def _add(self, job: LiveJob, now: Now) -> None:
        self.jobs[job.job_id] = job
        self.live_by_model[job.model] += 1
        self.live_by_account[job.account] += 1
        if job.deadline_us is not None:
            remaining_s = max(0.0, (job.deadline_us - now.wall_us) / 1e6)
            self._deadlines.set(job.job_id, now.mono + remaining_s)

    def _forget(self, job: LiveJob) -> None:
        del self.jobs[job.job_id]
        if job.deadline_us is not None:
            self._deadlines.cancel(job.job_id)
        if job.not_before_us is not None:
            self._wakes.cancel(job.job_id)
        if job.prefers_until:
            self._reconsiders.cancel(job.job_id)
        decrement(self.live_by_model, job.model)
        decrement(self.live_by_account, job.account)

    def _take_back(self, job: LiveJob, lease: Lease | None, ending: Ending, now: Now) -> None:
        job.awaits_miners = False
        if ending.is_free:
            job.max_attempts += 1
        if ending.is_free and ending.error_code == NOT_DELIVERED:
            job.free_returns += 1
        elif lease is not None and lease.miner_id not in job.failed_miners:
            job.failed_miners += (lease.miner_id,)
        if not self._is_over(job, now):
            self._queue(job, ending.not_before_us, _PATIENCE_S, now)

    def _queue(self, job: LiveJob, not_before_us: int | None, patience_s: float, now: Now) -> None:
        job.not_before_us = not_before_us
        # The clock that set the time may have been ahead of this one: no longer than was meant.
        wait_s = max(0, (not_before_us or 0) - now.wall_us) / 1e6
        wait_s = min(wait_s, retry_delay_s(job.attempt))
        if job.failed_miners:
            job.prefers_until = now.mono + wait_s + patience_s
            self._reconsiders.set(job.job_id, job.prefers_until)
        if wait_s:
            self._wakes.set(job.job_id, now.mono + wait_s)
        else:
            self._matcher.push(job)

    def _is_over(self, job: LiveJob, now: Now) -> bool:
        """Ends a job that has come back, if that was asked for or due while it was being stored."""
        if job.cancel_requested:
            self._end_wait(job, "CANCELLED", "", now)
        elif job.is_overdue(now):
            self._check_deadline(job.job_id, now)
        return job.is_ending

    def _end_wait(self, job: LiveJob, code: str, message: str, now: Now) -> None:
        self._matcher.remove(job)
        job.is_ending = True
        self.effects.endings.append(end_of_wait(job, code, message, now))

    # Timers, of jobs that are not forgotten.

    def _wake(self, job_id: str, now: Now) -> None:
        job = self.jobs[job_id]
        if job.lease is None and not job.is_ending:
            self._matcher.push(job)

    def _reconsider(self, job_id: str, now: Now) -> None:
        self._matcher.reconsider(self.jobs[job_id])

    def _check_deadline(self, job_id: str, now: Now) -> None:
        job = self.jobs[job_id]
        if job.is_ending:
            return
        code, message = "DEADLINE_EXCEEDED", "the job's timeout_seconds passed"
        if job.lease is None:
            self._end_wait(job, code, message, now)
        elif job.lease.is_held:
            self._leasing.tell(job.lease, CancelReason.DEADLINE_PASSED)
            self._leasing.end(job.lease, code, message, now, retryable=False)
        else:
            # Its lease is being stored or ended: look again when that is done.
            self._deadlines.set(job_id, now.mono + 0.1)

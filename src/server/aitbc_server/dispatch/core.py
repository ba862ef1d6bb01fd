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
from aitbc_server.dispatch.endings import end_of_attempt, end_of_undelivered, end_of_wait
from aitbc_server.dispatch.leases import LeaseBook, decrement
from aitbc_server.dispatch.live import (
    CancelReason,
    CloseReason,
    Lease,
    LiveJob,
    Now,
    Outbox,
    Phase,
    Session,
)
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.dispatch.timers import Timers
from aitbc_server.domain.errors import JobAlreadyClaimed, LeaseLost, ModelNotOffered
from aitbc_server.domain.ids import lease_id_of
from aitbc_server.domain.jobs import (
    Begin,
    Completion,
    Ending,
    JobStatus,
    LiveRecord,
    claim_duration_s,
)


class Core:
    """Jobs, leases and sessions that are not over, and the rules by which they meet."""

    def __init__(self, *, lease_s: float) -> None:
        """`lease_s`: how long a lease lasts after its miner was last heard."""
        self.effects = Effects()
        self.jobs: dict[str, LiveJob] = {}
        self.leases = LeaseBook()
        self.sessions: dict[str, Session] = {}
        self.is_draining = False
        self.live_by_model: Counter[str] = Counter()
        self._lease_s = lease_s
        self._matcher = Matcher()
        self._timers = Timers()

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
                self._queue(job, record.not_before_us, now)
                continue
            lease = Lease(
                lease_id=record.lease_id,
                job=job,
                miner_id=record.miner_id,
                attempt=record.attempt,
                started_us=record.started_us or now.wall_us,
                phase=Phase.HELD,
                claim_s=record.claim_s,
            )
            self.leases.add(lease)
            self._expire_after(lease, max(self._lease_s, record.claim_s or 0.0), now)

    def cancel(self, job: LiveJob, now: Now) -> None:
        """Asks for a job's cancellation; whatever end is being stored already goes first."""
        lease = job.lease
        if lease is None:
            if not job.is_ending:
                job.cancel_requested = True
                self._end_wait(job, "CANCELLED", "", now)
            return
        if job.cancel_requested or lease.phase is Phase.ENDING:
            return
        job.cancel_requested = True
        self.effects.flags.append((job.job_id, now.wall_us))
        if lease.is_held:
            self._tell(lease, CancelReason.REQUESTED)
        # No longer renewed: a miner that does not answer loses it.
        self._expire_after(lease, self._lease_s, now)

    def available(self, models: Iterable[str], count: int) -> list[LiveJob]:
        """Returns the jobs that a miner of these models could claim, the next one first."""
        return self._matcher.peek(models, count)

    # Claims: leases of miners that poll

    def claim(self, job: LiveJob, miner_id: str, models: Sequence[str], now: Now) -> Lease:
        """Proposes a lease for a miner that asked for this job.

        Raises ModelNotOffered and JobAlreadyClaimed.
        """
        if job.model not in models:
            raise ModelNotOffered("miner_id", f"the miner does not offer the model {job.model}")
        if job.lease is not None or job.is_ending:
            raise JobAlreadyClaimed("a miner holds this job already")
        self._matcher.remove(job)
        claim_s = claim_duration_s(job.max_tokens)
        lease = self._propose(job, miner_id, now, claim_s=claim_s)
        self._expire_after(lease, claim_s, now)
        return lease

    def extend(self, lease: Lease, now: Now) -> None:
        """Renews a claim. Raises LeaseLost when it ends instead, because of a cancellation."""
        if lease.phase is Phase.ENDING:
            raise LeaseLost("the lease is ending")
        if lease.job.cancel_requested:
            self._end(lease, "CANCELLED", "", now, retryable=False)
            raise LeaseLost("the job was cancelled by its client")
        if lease.claim_s is not None:
            lease.expires_at = now.mono + lease.claim_s

    # Sessions: miners on the Work stream

    def open_session(
        self, session: Session, held: Iterable[str], now: Now
    ) -> tuple[list[str], list[Lease]]:
        """Begins a session; returns which held leases are lost, and which go on in it.

        Leases of the miner that it does not name are given back: they never reached it, or it was
        started anew.
        """
        older = self.sessions.get(session.miner_id)
        if older is not None:
            self.close_session(older, CloseReason.SUPERSEDED, now)
        self.sessions[session.miner_id] = session
        lost, kept = [], []
        for lease_id in dict.fromkeys(held):
            lease = self.leases.by_id.get(lease_id)
            if lease is None or lease.miner_id != session.miner_id or lease.claim_s is not None:
                lost.append(lease_id)
                continue
            self.leases.move(lease, session)
            if not lease.job.cancel_requested:
                lease.expires_at = None
            elif lease.is_held:
                self._tell(lease, CancelReason.REQUESTED)
            kept.append(lease)
        self._give_back_unnamed(session, now)
        self._matcher.update(session)
        self._timers.at(now.mono + self._lease_s, self._check_silence, session)
        return lost, kept

    def close_session(self, session: Session, reason: CloseReason, now: Now) -> None:
        """Ends a session; its leases wait for the miner until they expire.

        What the miner was never told, or what reached it after it had left, is given back at once.
        """
        if session.closed is not None:
            return
        session.closed = reason
        self.effects.touched[session] = None
        self._matcher.update(session)
        if self.sessions.get(session.miner_id) is session:
            del self.sessions[session.miner_id]
        leases = list(session.leases.values())
        for lease in leases:
            self.leases.move(lease, None)
            if lease.expires_at is None:
                lease.expires_at = max(session.heard_at + self._lease_s, now.mono)
                self._timers.at(lease.expires_at, self._check_expiry, lease)
        untold = leases if reason is CloseReason.LEFT else session.outbox.assignments
        for lease in untold:
            self._give_back(lease, now)
        session.outbox = Outbox()

    def set_window(self, session: Session, window: int, now: Now) -> None:
        """Takes the miner's new window; gives back what it was not told of and has no room for."""
        session.window = window
        while session.room < 0 and session.outbox.assignments:
            self._withdraw(session.outbox.assignments.pop(), now)
        self._matcher.update(session)

    def progress(self, session: Session, lease_id: str, sequence: int, tokens: int) -> None:
        """Notes more of an answer."""
        lease = self._lease_of(session, lease_id)
        if lease is not None and sequence >= lease.next_sequence:
            lease.next_sequence = sequence + 1
            lease.tokens += tokens

    def deliver(self, session: Session, sequence: int, completion: Completion) -> None:
        """Takes a result from a stream: proposes the completion if the session holds the lease."""
        lease = self._lease_of(session, completion.lease_id)
        if lease is not None:
            lease.next_sequence, lease.is_reported = sequence + 1, True
            self.complete(lease, completion)

    def fail(
        self,
        session: Session,
        lease_id: str,
        sequence: int,
        *,
        code: str,
        message: str,
        retryable: bool,
        now: Now,
    ) -> None:
        """Takes a failure from a stream."""
        lease = self._lease_of(session, lease_id)
        if lease is not None:
            lease.next_sequence, lease.is_reported = sequence + 1, True
            self._end(lease, code, message, now, retryable=retryable)

    def complete(self, lease: Lease, completion: Completion) -> None:
        """Proposes a completion of a held lease."""
        lease.phase = Phase.ENDING
        self.effects.completions.append(completion)

    def give_up(self, lease: Lease, *, code: str, message: str, retryable: bool, now: Now) -> None:
        """Proposes the end of a held lease without a result."""
        self._end(lease, code, message, now, retryable=retryable)

    # Time

    def next_timer(self) -> float | None:
        """Returns when `tick` has something to do (monotonic), or None."""
        return self._timers.next()

    def tick(self, now: Now) -> None:
        """Does what is due."""
        for call, argument in self._timers.due(now.mono):
            call(argument, now)

    def match(self, now: Now) -> None:
        """Proposes leases while there are jobs and miners with room."""
        if self.is_draining:
            return
        for job, session in self._matcher.pairs():
            lease = self._propose(job, session.miner_id, now)
            self.leases.move(lease, session)

    # Answers of the store

    def begun(self, begins: Sequence[Begin], done: frozenset[str], now: Now) -> None:
        """Leases are stored: tells the miners. `done`: jobs that took theirs."""
        for begin in begins:
            lease = self.leases.by_id[begin.lease_id]
            if begin.job_id not in done:
                # Somebody else changed the database: believe it.
                self._detach(lease)
                self._forget(lease.job)
                continue
            lease.phase = Phase.HELD
            if lease.job.cancel_requested:
                self._end(lease, "CANCELLED", "", now, retryable=False)
            elif lease.session is not None and lease.session.room < 0:
                # The window has shrunk since.
                self._withdraw(lease, now)
            elif lease.session is not None:
                lease.session.outbox.assignments.append(lease)
                self.effects.touched[lease.session] = None
            elif lease.claim_s is None:
                self._give_back(lease, now)

    def begin_failed(self, begins: Sequence[Begin], retry_s: float, now: Now) -> None:
        """Leases could not be stored: the jobs wait for a while."""
        for begin in begins:
            lease = self.leases.by_id[begin.lease_id]
            self._detach(lease)
            lease.job.attempt -= 1
            self._timers.at(now.mono + retry_s, self._wake, lease.job)

    def completed(self, completions: Sequence[Completion], done: frozenset[str]) -> None:
        """Results are stored: acknowledges them. `done`: jobs that took theirs."""
        for completion in completions:
            lease = self.leases.by_id[completion.lease_id]
            session = self._detach(lease)
            self._forget(lease.job)
            if completion.job_id in done:
                self.effects.finals.append(completion.job_id)
                self._acknowledge(session, lease)
            elif session is not None:
                session.outbox.cancellations[lease.lease_id] = CancelReason.LEASE_LOST
                self.effects.touched[session] = None

    def ended(self, endings: Sequence[Ending], done: frozenset[str], now: Now) -> None:
        """Ends without a result are stored. `done`: jobs that they applied to."""
        for ending in endings:
            job = self.jobs[ending.job_id]
            lease = job.lease
            if lease is not None:
                self._acknowledge(self._detach(lease), lease)
            if ending.status is JobStatus.PENDING and ending.job_id in done:
                self._queue(job, ending.not_before_us, now)
                continue
            self._forget(job)
            self.effects.finals.append(job.job_id)

    def take_effects(self) -> Effects:
        """Returns what is to be done, and begins a new list."""
        effects, self.effects = self.effects, Effects()
        return effects

    # Inside

    def _add(self, job: LiveJob, now: Now) -> None:
        self.jobs[job.job_id] = job
        self.live_by_model[job.model] += 1
        if job.deadline_us is not None:
            remaining_s = max(0.0, (job.deadline_us - now.wall_us) / 1e6)
            self._timers.at(now.mono + remaining_s, self._check_deadline, job)

    def _forget(self, job: LiveJob) -> None:
        del self.jobs[job.job_id]
        decrement(self.live_by_model, job.model)

    def _queue(self, job: LiveJob, not_before_us: int | None, now: Now) -> None:
        if not_before_us is not None and not_before_us > now.wall_us:
            wait_s = (not_before_us - now.wall_us) / 1e6
            self._timers.at(now.mono + wait_s, self._wake, job)
        else:
            self._matcher.push(job)

    def _propose(
        self, job: LiveJob, miner_id: str, now: Now, *, claim_s: float | None = None
    ) -> Lease:
        job.attempt += 1
        lease = Lease(
            lease_id=lease_id_of(job.job_id, job.attempt),
            job=job,
            miner_id=miner_id,
            attempt=job.attempt,
            started_us=now.wall_us,
            claim_s=claim_s,
        )
        self.leases.add(lease)
        self.effects.begins.append(
            Begin(
                job_id=job.job_id,
                lease_id=lease.lease_id,
                attempt=job.attempt,
                miner_id=miner_id,
                started_us=now.wall_us,
                claim_s=claim_s,
            )
        )
        return lease

    def _detach(self, lease: Lease) -> Session | None:
        session = self.leases.remove(lease)
        if session is not None:
            self._matcher.update(session)
        return session

    def _lease_of(self, session: Session, lease_id: str) -> Lease | None:
        """Returns the lease if its session may change it now; else tells where it stands."""
        lease = self.leases.by_id.get(lease_id)
        if lease is not None and lease.session is session:
            # Ending: the answer follows when its end is stored.
            return lease if lease.is_held else None
        if session.closed is None:
            ended_at = self.leases.ended_at(lease_id)
            if ended_at is not None:
                session.outbox.acks[lease_id] = ended_at
            else:
                session.outbox.cancellations[lease_id] = CancelReason.LEASE_LOST
            self.effects.touched[session] = None
        return None

    def _acknowledge(self, session: Session | None, lease: Lease) -> None:
        if not lease.is_reported:
            return
        self.leases.remember(lease)
        if session is not None and session.closed is None:
            session.outbox.acks[lease.lease_id] = lease.next_sequence
            self.effects.touched[session] = None

    def _tell(self, lease: Lease, reason: CancelReason) -> None:
        if lease.session is not None:
            lease.session.outbox.cancellations[lease.lease_id] = reason
            self.effects.touched[lease.session] = None

    def _end(self, lease: Lease, code: str, message: str, now: Now, *, retryable: bool) -> None:
        lease.phase = Phase.ENDING
        self.effects.endings.append(end_of_attempt(lease, code, message, now, retryable=retryable))

    def _give_back(self, lease: Lease, now: Now) -> None:
        if lease.is_held:
            lease.phase = Phase.ENDING
            self.effects.endings.append(end_of_undelivered(lease, now))

    def _withdraw(self, lease: Lease, now: Now) -> None:
        self.leases.move(lease, None)
        self._give_back(lease, now)

    def _end_wait(self, job: LiveJob, code: str, message: str, now: Now) -> None:
        self._matcher.remove(job)
        job.is_ending = True
        self.effects.endings.append(end_of_wait(job, code, message, now))

    def _give_back_unnamed(self, session: Session, now: Now) -> None:
        message = "the miner came back without the job"
        for lease in self.leases.away(session.miner_id):
            if lease.is_held:
                self._end(lease, "MINER_RESTARTED", message, now, retryable=True)

    def _expire_after(self, lease: Lease, seconds: float, now: Now) -> None:
        lease.expires_at = now.mono + seconds
        self._timers.at(lease.expires_at, self._check_expiry, lease)

    # Timers. Each checks whether it still applies.

    def _wake(self, job: LiveJob, now: Now) -> None:
        if job.job_id in self.jobs and job.lease is None and not job.is_ending:
            self._matcher.push(job)

    def _check_expiry(self, lease: Lease, now: Now) -> None:
        if (
            lease.expires_at is None
            or self.leases.by_id.get(lease.lease_id) is not lease
            or lease.phase is Phase.ENDING
        ):
            return
        if lease.expires_at > now.mono or lease.phase is Phase.BEGINNING:
            self._timers.at(max(lease.expires_at, now.mono + 1.0), self._check_expiry, lease)
            return
        self._tell(lease, CancelReason.LEASE_LOST)
        message = f"nothing was heard from {lease.miner_id} while the lease lasted"
        self._end(lease, "LEASE_EXPIRED", message, now, retryable=True)

    def _check_silence(self, session: Session, now: Now) -> None:
        if session.closed is not None:
            return
        due = session.heard_at + self._lease_s
        if due > now.mono:
            self._timers.at(due, self._check_silence, session)
        else:
            self.close_session(session, CloseReason.SILENT, now)

    def _check_deadline(self, job: LiveJob, now: Now) -> None:
        if self.jobs.get(job.job_id) is not job or job.is_ending:
            return
        code, message = "DEADLINE_EXCEEDED", "the job's timeout_seconds passed"
        if job.lease is None:
            self._end_wait(job, code, message, now)
        elif job.lease.is_held:
            self._tell(job.lease, CancelReason.DEADLINE_PASSED)
            self._end(job.lease, code, message, now, retryable=False)
        else:
            # Its lease is being stored or ended: look again when that is done.
            self._timers.at(now.mono + 0.1, self._check_deadline, job)

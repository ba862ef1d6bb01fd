"""A dispatcher core with a store and miners in memory, driven step by step.

The store applies a proposal only when the test says so, or refuses it; miners see only what reached
their outbox. Every change of a job is checked against the table of transitions as it happens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.live import CloseReason, LiveJob, Now, Session
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import (
    TRANSITIONS,
    Begin,
    Completion,
    Ending,
    JobStatus,
    LiveRecord,
    NewJob,
)
from tests.factories import completion, instant, new_job, session

LEASE_S = 15.0


@dataclass
class Row:
    """A job as the store holds it."""

    new: NewJob
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    lease_id: str | None = None
    miner_id: str | None = None
    not_before_us: int | None = None
    cancel_requested: bool = False
    result: str | None = None
    max_attempts: int = 0
    failed_miners: dict[str, None] = field(default_factory=dict)
    # Lease ids in the order in which they began.
    leases: list[str] = field(default_factory=list)

    def change(self, status: JobStatus) -> None:
        """Moves along an arrow that exists."""
        assert (self.status, status) in TRANSITIONS
        self.status = status


class Simulation:
    """The core, its store and its miners."""

    def __init__(self) -> None:
        self.core = Core(lease_s=LEASE_S)
        self.rows: dict[str, Row] = {}
        self.seconds = 0.0
        # What the miners hold, by miner id; a miner keeps it while its stream is down.
        self.held: dict[str, dict[str, int]] = {}
        self.stored: list[Effects] = []

    @property
    def now(self) -> Now:
        """The present instant."""
        return instant(self.seconds)

    # Events

    def submit(self, **fields: object) -> str:
        """Submits a job; returns its id."""
        new = new_job(created_us=self.now.wall_us, **fields)
        self.rows[new.job_id] = Row(new, max_attempts=new.max_attempts)
        job = LiveJob(
            job_id=new.job_id,
            owner=new.owner,
            model=new.model,
            priority=new.priority,
            created_us=new.created_us,
            max_attempts=new.max_attempts,
            max_tokens=None,
            deadline_us=new.deadline_us,
        )
        self.core.submit(job, self.now)
        return new.job_id

    def connect(self, miner_id: str, window: int = 4) -> Session:
        """Opens a session with everything that the miner holds."""
        opened = session(miner_id, window=window, heard_at=self.now.mono)
        held = self.held.setdefault(miner_id, {})
        lost, _ = self.core.sessions.open(opened, list(held), self.now)
        for lease_id in lost:
            del held[lease_id]
        return opened

    def disconnect(self, miner_id: str) -> None:
        """Breaks the miner's stream."""
        opened = self.core.sessions.by_miner.get(miner_id)
        if opened is not None:
            self.core.sessions.close(opened, CloseReason.GONE, self.now)

    def leave(self, miner_id: str) -> None:
        """Has a miner drain and say goodbye, dropping whatever it was given last."""
        opened = self.core.sessions.by_miner.get(miner_id)
        if opened is not None:
            self.core.sessions.set_window(opened, 0, self.now)
            self.core.sessions.close(opened, CloseReason.LEFT, self.now)
            self.held[miner_id] = {}

    def deliver(self, miner_id: str, lease_id: str) -> None:
        """Has a miner send a result."""
        opened = self.core.sessions.by_miner[miner_id]
        opened.heard_at = self.now.mono
        done = completion(job_of_lease(lease_id) or "", lease_id=lease_id, result=lease_id)
        self.core.sessions.deliver(opened, 0, done)

    def fail(self, miner_id: str, lease_id: str, *, retryable: bool) -> None:
        """Has a miner send a failure."""
        opened = self.core.sessions.by_miner[miner_id]
        opened.heard_at = self.now.mono
        self.core.sessions.fail(
            opened, lease_id, 0, code="X", message="x", retryable=retryable, now=self.now
        )

    def pass_time(self, seconds: float) -> None:
        """Lets time pass."""
        self.seconds += seconds
        self.core.tick(self.now)

    def restart(self) -> None:
        """Loses the process: proposals that were not stored are gone, and all streams."""
        self.core = Core(lease_s=LEASE_S)
        self.core.restore(
            [
                LiveRecord(
                    job_id=job_id,
                    owner=row.new.owner,
                    model=row.new.model,
                    priority=row.new.priority,
                    attempt=row.attempt,
                    max_attempts=row.max_attempts,
                    max_tokens=None,
                    created_us=row.new.created_us,
                    deadline_us=row.new.deadline_us,
                    not_before_us=row.not_before_us,
                    miner_id=row.miner_id,
                    lease_id=row.lease_id if row.status is JobStatus.RUNNING else None,
                    started_us=None,
                    claim_s=None,
                    cancel_requested=row.cancel_requested,
                    failed_miners=tuple(row.failed_miners),
                    spec_bytes=len(row.new.spec),
                )
                for job_id, row in sorted(self.rows.items())
                if not row.status.is_final
            ],
            self.now,
        )

    # The shell's part

    def turn(self, *, store_works: bool = True, is_lost: bool = False) -> None:
        """Matches, stores and answers, until nothing is proposed any more.

        `is_lost`: the process dies after the commit, before any answer is given.
        """
        while True:
            self.core.match(self.now)
            effects = self.core.effects.take()
            if store_works:
                begun = frozenset(b.job_id for b in effects.begins if self._begin(b))
                done = frozenset(c.job_id for c in effects.completions if self._complete(c))
                ended = frozenset(e.job_id for e in effects.endings if self._end(e))
                for job_id, _ in effects.flags:
                    self.rows[job_id].cancel_requested = True
            if is_lost:
                self.restart()
                return
            if not store_works:
                self.core.begin_failed(effects.begins, 1.0, self.now)
                # The shell keeps these and tries again.
                self.core.effects.completions.extend(effects.completions)
                self.core.effects.endings.extend(effects.endings)
                self.core.effects.flags.extend(effects.flags)
                return
            self.core.begun(effects.begins, begun, self.now)
            self.core.completed(effects.completions, done)
            self.core.ended(effects.endings, ended, self.now)
            self._read_outboxes()
            if not (effects.begins or effects.completions or effects.endings):
                return

    def _read_outboxes(self) -> None:
        for miner_id, opened in self.core.sessions.by_miner.items():
            outbox, held = opened.outbox, self.held[miner_id]
            for lease_id in [*outbox.cancellations, *outbox.acks]:
                held.pop(lease_id, None)
            outbox.cancellations.clear()
            outbox.acks.clear()
            given = [lease.lease_id for lease in outbox.assignments if lease.is_held]
            outbox.assignments.clear()
            held |= dict.fromkeys(given, 0)
            assert not given or len(held) <= opened.window, "a miner holds more than its window"

    # The store: the same guards as the SQL

    def _begin(self, begin: Begin) -> bool:
        row = self.rows[begin.job_id]
        if row.status is not JobStatus.PENDING or row.attempt != begin.attempt - 1:
            return False
        assert begin.lease_id not in row.leases, "a lease id was used twice"
        row.change(JobStatus.RUNNING)
        row.attempt, row.lease_id, row.miner_id = begin.attempt, begin.lease_id, begin.miner_id
        row.not_before_us = None
        row.leases.append(begin.lease_id)
        return True

    def _complete(self, done: Completion) -> bool:
        row = self.rows[done.job_id]
        if row.status is not JobStatus.RUNNING or row.lease_id != done.lease_id:
            return False
        row.change(JobStatus.COMPLETED)
        row.result = done.result
        return True

    def _end(self, end: Ending) -> bool:
        row = self.rows[end.job_id]
        wanted = JobStatus.PENDING if end.lease_id is None else JobStatus.RUNNING
        if row.status is not wanted or (end.lease_id and row.lease_id != end.lease_id):
            return False
        row.change(end.status)
        row.not_before_us = end.not_before_us
        row.max_attempts += end.is_free
        if end.lease_id and row.miner_id and not end.is_free:
            row.failed_miners[row.miner_id] = None
        return True

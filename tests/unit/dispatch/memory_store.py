"""A store in memory with the same guards as the SQL; every change follows an arrow that exists."""

from __future__ import annotations

from dataclasses import dataclass, field

from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.endings import NOT_DELIVERED
from aitbc_server.domain.jobs import (
    TRANSITIONS,
    Begin,
    Completion,
    Ending,
    JobStatus,
    LiveRecord,
    NewJob,
)


@dataclass
class Row:
    """A job as the store holds it."""

    new: NewJob
    max_attempts: int
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    lease_id: str | None = None
    miner_id: str | None = None
    claim_s: float | None = None
    not_before_us: int | None = None
    cancel_requested: bool = False
    is_abandoned: bool = False
    result: str | None = None
    # Lease ids in the order in which they began, and how many counted as attempts.
    leases: list[str] = field(default_factory=list)
    counted: int = 0
    failed_miners: dict[str, None] = field(default_factory=dict)
    vanishes: int = 0
    free_returns: int = 0
    # Why each lease ended that did without a result, and why the job failed.
    ends: dict[str, str] = field(default_factory=dict)
    error_code: str | None = None

    def change(self, status: JobStatus) -> None:
        """Moves along an arrow that exists."""
        assert (self.status, status) in TRANSITIONS
        self.status = status

    def record(self) -> LiveRecord:
        """Returns what a dispatcher that starts gets of it."""
        new = self.new
        return LiveRecord(
            job_id=new.job_id,
            owner=new.owner,
            model=new.model,
            priority=new.priority,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            max_tokens=new.max_tokens,
            created_us=new.created_us,
            deadline_us=new.deadline_us,
            not_before_us=self.not_before_us,
            miner_id=self.miner_id,
            lease_id=self.lease_id if self.status is JobStatus.RUNNING else None,
            started_us=None,
            claim_s=self.claim_s,
            cancel_requested=self.cancel_requested,
            is_abandoned=self.is_abandoned,
            failed_miners=tuple(self.failed_miners),
            # Of those that run alone, as the real one tells it.
            spec_bytes=len(new.spec) if self.status is JobStatus.RUNNING else 0,
            vanishes=self.vanishes,
            free_returns=self.free_returns,
            task=new.task,
        )


class MemoryStore:
    """Jobs by id."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def submit(self, new: NewJob) -> None:
        """Stores a job."""
        self.rows[new.job_id] = Row(new, new.max_attempts)

    def live(self) -> list[LiveRecord]:
        """Returns every job that is not final, the oldest first."""
        return [row.record() for _, row in sorted(self.rows.items()) if not row.status.is_final]

    def apply(self, effects: Effects) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Stores what is proposed; returns the jobs whose begins, completions and ends held."""
        begun = frozenset(b.job_id for b in effects.begins if self._begin(b))
        done = frozenset(c.job_id for c in effects.completions if self._complete(c))
        ended = frozenset(e.job_id for e in effects.endings if self._end(e))
        for job_id, _, is_abandoned in effects.flags:
            row = self.rows[job_id]
            # The first request to cancel is the one that counts.
            if row.status is JobStatus.RUNNING and not row.cancel_requested:
                row.cancel_requested, row.is_abandoned = True, is_abandoned
        return begun, done, ended

    def _begin(self, begin: Begin) -> bool:
        row = self.rows[begin.job_id]
        if row.status is JobStatus.RUNNING:
            # A repetition, after a commit whose answer was lost.
            return (row.lease_id, row.miner_id) == (begin.lease_id, begin.miner_id)
        if row.status is not JobStatus.PENDING or row.attempt != begin.attempt - 1:
            return False
        assert begin.lease_id not in row.leases, "a lease id was used twice"
        row.change(JobStatus.RUNNING)
        row.attempt, row.lease_id, row.miner_id = begin.attempt, begin.lease_id, begin.miner_id
        row.claim_s, row.not_before_us = begin.claim_s, None
        row.leases.append(begin.lease_id)
        row.counted += 1
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
        is_undelivered = end.error_code == NOT_DELIVERED
        row.free_returns += end.is_free and is_undelivered
        row.vanishes = end.vanishes
        if end.lease_id is not None:
            row.ends[end.lease_id] = end.error_code
        if end.status.is_final:
            row.error_code = end.told_code
        row.counted -= end.is_free
        if end.lease_id and row.miner_id and not (end.is_free and is_undelivered):
            row.failed_miners[row.miner_id] = None
        return True

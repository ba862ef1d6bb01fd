"""Judges a history in the manner of Jepsen's total-queue: nothing lost, nothing done twice.

Valid for a history that was taken to its end: faults stopped, the system drained, and every job
was listed. Pure functions; an event that is missing for want of an answer never accuses anybody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from chaos.history import (
    Acked,
    Acknowledged,
    Assigned,
    Attempted,
    CancelAsked,
    Counted,
    Event,
    Kept,
    Receipted,
    Refused,
    Seen,
    Sent,
)

_FINAL = frozenset({"completed", "failed", "cancelled"})
# Code of a job that is set aside, and how many miners must have vanished with it.
POISON = "POISON"
_VANISHES = 2


class Breach(StrEnum):
    """What can be wrong."""

    #: An acknowledged job is gone.
    LOST = "lost"
    #: A job exists that nobody submitted, or whose every submit was refused.
    UNEXPECTED = "unexpected"
    #: One submit made two jobs.
    DOUBLED = "doubled"
    #: A job is not final although the system drained.
    UNFINISHED = "unfinished"
    #: A final state changed, or the coordinator counted final states that it does not have.
    CHANGED = "final state changed"
    #: Attempts of a job did not only count up, or one lease went out twice.
    NOT_INCREASING = "attempts not increasing"
    #: An older lease was taken for live after a newer one had begun.
    TWO_LEASES = "two live leases"
    #: A result is not what the holder of the accepted lease sent.
    FOREIGN_RESULT = "foreign result"
    #: A completed job has not exactly one receipt, or the ledger counts with gaps.
    RECEIPTS = "receipts do not match results"
    #: A miner was told that its result is stored, and the job has another end.
    BROKEN_ACK = "acknowledged result gone"
    #: A job failed or was cancelled without a cause.
    UNEXPLAINED = "unexplained end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    breach: Breach
    # The job's id, or the key of its submit.
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the checker says of a history."""

    findings: tuple[Finding, ...]
    # Jobs that clients tried to submit, were told are stored, and that are there in the end.
    attempted: int
    acknowledged: int
    # Never answered for, and yet there: a submit whose answer was lost.
    recovered: int
    # Jobs by final state.
    ends: Counter[str]
    # Failed jobs that were set aside.
    set_aside: int
    # Leases that recording miners were given, and ends of leases that they sent, repeats included.
    leases: int
    sent: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True)
class _Facts:
    """The history by what happened to whom."""

    attempts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    cancelled: set[str] = field(default_factory=set)
    assigned: dict[str, list[Assigned]] = field(default_factory=lambda: defaultdict(list))
    leases: dict[str, Assigned] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    sent: dict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    acked: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    last: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    receipts: list[Receipted] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Files an event."""
        match event:
            case Attempted():
                self.attempts[event.key] += 1
            case Refused():
                self.refusals[event.key] += 1
            case Acknowledged():
                self.acknowledged[event.key].add(event.job_id)
            case CancelAsked():
                self.cancelled.add(event.job_id)
            case Assigned():
                self.assigned[event.job_id].append(event)
                self.leases.setdefault(event.lease_id, event)
            case Kept():
                self.kept.append(event)
            case Sent():
                self.sent[event.lease_id].append(event)
            case Acked():
                self.acked.add(event.lease_id)
            case Seen(is_last=True):
                self.last[event.job_id].append(event)
            case Seen():
                self.seen.append(event)
            case Receipted():
                self.receipts.append(event)
            case Counted():
                self.counted.append(event)


def check(history: Iterable[Event], *, max_attempts: int, echoes: Iterable[str] = ()) -> Verdict:
    """Returns the verdict.

    `max_attempts`: of every job; `echoes`: miners that record nothing and answer with the prompt.
    """
    facts = _Facts()
    for event in history:
        facts.add(event)
    by_key = _grouped((one[0] for one in facts.last.values()), lambda seen: seen.key)
    findings = [
        *_submits(facts, by_key),
        *_ends(facts, max_attempts),
        *_leases(facts),
        *_results(facts, frozenset(echoes)),
        *_receipts(facts),
    ]
    return Verdict(
        findings=tuple(findings),
        attempted=len(facts.attempts),
        acknowledged=len(facts.acknowledged),
        recovered=sum(key in facts.attempts for key in by_key.keys() - facts.acknowledged.keys()),
        ends=Counter(seen[0].status for seen in facts.last.values()),
        set_aside=sum(seen[0].error_code == POISON for seen in facts.last.values()),
        leases=len(facts.leases),
        sent=sum(map(len, facts.sent.values())),
    )


def _submits(facts: _Facts, by_key: dict[str, list[Seen]]) -> Iterator[Finding]:
    for key, job_ids in facts.acknowledged.items():
        # Not by subtracting the keys: that would look at all of them for each job.
        for job_id in [one for one in job_ids if one not in facts.last]:
            yield Finding(breach=Breach.LOST, subject=job_id, detail=f"acknowledged for {key}")
        if len(job_ids) > 1:
            detail = f"acknowledged as {', '.join(sorted(job_ids))}"
            yield Finding(breach=Breach.DOUBLED, subject=key, detail=detail)
    for key, jobs in by_key.items():
        if key not in facts.attempts:
            detail = f"nobody submitted {key!r}"
            yield Finding(breach=Breach.UNEXPECTED, subject=jobs[0].job_id, detail=detail)
        elif facts.refusals[key] >= facts.attempts[key]:
            detail = f"every submit of {key} was refused"
            yield Finding(breach=Breach.UNEXPECTED, subject=jobs[0].job_id, detail=detail)
        if len(jobs) > 1:
            detail = f"became {', '.join(job.job_id for job in jobs)}"
            yield Finding(breach=Breach.DOUBLED, subject=key, detail=detail)
    for job_id, listed in facts.last.items():
        if len(listed) > 1:
            detail = f"listed {len(listed)} times"
            yield Finding(breach=Breach.DOUBLED, subject=job_id, detail=detail)


def _ends(facts: _Facts, max_attempts: int) -> Iterator[Finding]:
    for job_id, (job, *_) in facts.last.items():
        if job.status not in _FINAL:
            detail = f"{job.status} after the drain, attempt {job.attempt}"
            yield Finding(breach=Breach.UNFINISHED, subject=job_id, detail=detail)
        if job.status == "cancelled" and job_id not in facts.cancelled:
            detail = "nobody cancelled it"
            yield Finding(breach=Breach.UNEXPLAINED, subject=job_id, detail=detail)
        if job.status == "failed" and not _may_fail(facts, job, max_attempts):
            detail = f"failed with {job.error_code} in attempt {job.attempt}"
            yield Finding(breach=Breach.UNEXPLAINED, subject=job_id, detail=detail)
    for seen in facts.seen:
        last = facts.last.get(seen.job_id)
        if last and _end(seen) != _end(last[0]):
            detail = f"was {_shown(seen)}, is {_shown(last[0])}"
            yield Finding(breach=Breach.CHANGED, subject=seen.job_id, detail=detail)
    ends = Counter(seen[0].status for seen in facts.last.values())
    for counted in facts.counted:
        for status in sorted(_FINAL):
            count = getattr(counted, status)
            if count != ends[status]:
                detail = f"counted {count}, listed {ends[status]}"
                yield Finding(breach=Breach.CHANGED, subject=f"all {status} jobs", detail=detail)


def _may_fail(facts: _Facts, job: Seen, max_attempts: int) -> bool:
    if job.error_code == POISON:
        return job.vanished >= _VANISHES
    if job.attempt >= max_attempts:
        return True
    return any(
        not sent.is_retryable
        for lease in facts.assigned.get(job.job_id, ())
        if lease.attempt == job.attempt
        for sent in _sent_by_holder(facts, lease)
    )


def _end(seen: Seen) -> tuple[str, str, str, int]:
    return seen.status, seen.result, seen.miner_id, seen.attempt


def _shown(seen: Seen) -> str:
    return f"{seen.status} by {seen.miner_id or 'nobody'} in attempt {seen.attempt}"


def _leases(facts: _Facts) -> Iterator[Finding]:
    for job_id, leases in facts.assigned.items():
        for attempt, same in _grouped(leases, lambda lease: lease.attempt).items():
            if len(same) > 1:
                holders = ", ".join(lease.miner_id for lease in same)
                detail = f"attempt {attempt} went out {len(same)} times: {holders}"
                yield Finding(breach=Breach.NOT_INCREASING, subject=job_id, detail=detail)
        for miner_id, mine in _grouped(leases, lambda lease: lease.miner_id).items():
            attempts = [lease.attempt for lease in sorted(mine, key=lambda lease: lease.at)]
            if attempts != sorted(attempts):
                detail = f"{miner_id} was given attempts {attempts}"
                yield Finding(breach=Breach.NOT_INCREASING, subject=job_id, detail=detail)
    for kept in facts.kept:
        held = facts.leases.get(kept.lease_id)
        for newer in facts.assigned[held.job_id] if held else ():
            # The newer one had begun before the older was even presented.
            if held and newer.attempt > held.attempt and newer.at < kept.asked_at:
                detail = f"{kept.lease_id} goes on beside {newer.lease_id}"
                yield Finding(breach=Breach.TWO_LEASES, subject=newer.job_id, detail=detail)


def _results(facts: _Facts, echoes: frozenset[str]) -> Iterator[Finding]:
    for job_id, (job, *_) in facts.last.items():
        leases = facts.assigned.get(job_id, [])
        if job.status == "completed":
            yield from _result(facts, job, leases, echoes)
        for lease in leases:
            is_accepted = job.status == "completed" and job.attempt == lease.attempt
            sent = _sent_by_holder(facts, lease)
            only_results = all(one.result is not None for one in sent)
            if lease.lease_id in facts.acked and sent and only_results and not is_accepted:
                detail = f"{lease.lease_id} of {lease.miner_id}; the job is {_shown(job)}"
                yield Finding(breach=Breach.BROKEN_ACK, subject=job_id, detail=detail)


def _result(
    facts: _Facts, job: Seen, leases: list[Assigned], echoes: frozenset[str]
) -> Iterator[Finding]:
    for newer in leases:
        if newer.attempt > job.attempt:
            detail = f"completed in attempt {job.attempt}, and attempt {newer.attempt} was given"
            yield Finding(breach=Breach.TWO_LEASES, subject=job.job_id, detail=detail)
    accepted = [lease for lease in leases if lease.attempt == job.attempt]
    if not accepted and job.miner_id in echoes:
        if job.result != job.prompt:
            detail = f"{job.miner_id} echoes, and the result is not the prompt"
            yield Finding(breach=Breach.FOREIGN_RESULT, subject=job.job_id, detail=detail)
        return
    for lease in accepted:
        results = {sent.result for sent in _sent_by_holder(facts, lease)}
        if lease.miner_id == job.miner_id and job.result in results:
            return
    detail = f"{job.miner_id} did not send it in attempt {job.attempt}"
    yield Finding(breach=Breach.FOREIGN_RESULT, subject=job.job_id, detail=detail)


def _receipts(facts: _Facts) -> Iterator[Finding]:
    receipts = Counter(receipt.job_id for receipt in facts.receipts)
    for job_id, (job, *_) in facts.last.items():
        wanted = int(job.status == "completed")
        if receipts[job_id] != wanted:
            detail = f"{job.status}, with {receipts[job_id]} receipts"
            yield Finding(breach=Breach.RECEIPTS, subject=job_id, detail=detail)
    for job_id in receipts.keys() - facts.last.keys():
        detail = "a receipt, and no such job"
        yield Finding(breach=Breach.RECEIPTS, subject=job_id, detail=detail)
    places = sorted(receipt.leaf_index for receipt in facts.receipts)
    if places != list(range(len(places))):
        detail = f"{len(places)} leaves, the last at {places[-1]}"
        yield Finding(breach=Breach.RECEIPTS, subject="the ledger", detail=detail)


def _sent_by_holder(facts: _Facts, lease: Assigned) -> list[Sent]:
    # Others may send in its name: the coordinator must know better.
    sent = facts.sent.get(lease.lease_id, ())
    return [one for one in sent if one.miner_id == lease.miner_id]


_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


def _grouped(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    groups: dict[_Key, list[_Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups

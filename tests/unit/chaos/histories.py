"""Histories of a system that did everything right, for the checker to be tried on."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

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

MAX_ATTEMPTS = 4
ECHO = "echo"
_MINERS = ("alpha", "beta", ECHO)
Kind = TypeVar("Kind", bound=Event)


class History:
    """Lives of jobs, one after the other, on a clock of its own."""

    def __init__(self, seed: int, jobs: int) -> None:
        self._rng = random.Random(seed)
        self._clock = count()
        self.events: list[Event] = []
        for number in range(jobs):
            self._submit(f"key-{number}", f"job-{number}")
        ends = [event.status for event in self.of(Seen) if event.is_last]
        self.events.append(
            Counted(
                at=self._now(),
                **{end: ends.count(end) for end in ("completed", "failed", "cancelled")},
            )
        )

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Returns the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def swap(self, event: Event, **changes: Any) -> None:
        """Changes an event where it stands."""
        self.events[self.events.index(event)] = replace(event, **changes)

    def _now(self) -> float:
        return float(next(self._clock))

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _add(self, event: Event) -> None:
        self.events.append(event)

    def _submit(self, key: str, job_id: str) -> None:
        is_stored = False
        for _ in range(3):
            self._add(Attempted(at=self._now(), key=key))
            answer = self._rng.choice(["ok", "ok", "refused", "lost answer", "lost request"])
            is_stored = is_stored or answer in ("ok", "lost answer")
            if answer == "ok":
                self._add(Acknowledged(at=self._now(), key=key, job_id=job_id))
                break
            if answer == "refused" and not is_stored:
                self._add(Refused(at=self._now(), key=key, reason="DRAINING"))
        if is_stored:
            self._live(key, job_id)

    def _live(self, key: str, job_id: str) -> None:
        is_cancelled = self._chance(0.1)
        if is_cancelled:
            self._add(CancelAsked(at=self._now(), job_id=job_id))
        last = Seen(
            at=0, key=key, job_id=job_id, status="failed", attempt=0, error_code="X", is_last=True
        )
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if is_cancelled and self._chance(0.5):
                last = replace(last, status="cancelled")
                break
            miner_id = self._rng.choice(_MINERS)
            last = replace(last, attempt=attempt, miner_id=miner_id)
            outcome = self._rng.choice(["completed", "completed", "lost", "retry", "final"])
            if miner_id == ECHO:
                if outcome == "completed":
                    last = replace(
                        last,
                        status="completed",
                        result=f"{key} word",
                        prompt=f"{key} word",
                        error_code="",
                    )
                    break
                continue
            if self._attempt(job_id, miner_id, attempt, outcome):
                result = f"{key} by {miner_id} in {attempt}" if outcome == "completed" else ""
                status = "completed" if result else "failed"
                last = replace(last, status=status, result=result, error_code="" if result else "X")
                break
        if self._chance(0.3):
            self._add(replace(last, at=self._now(), is_last=False))
        self._add(replace(last, at=self._now()))
        if last.status == "completed":
            leaf_index = len(self.of(Receipted))
            self._add(Receipted(at=self._now(), job_id=job_id, leaf_index=leaf_index))

    def _attempt(self, job_id: str, miner_id: str, attempt: int, outcome: str) -> bool:
        """Adds an attempt; says whether it ended the job."""
        lease_id = f"lease-{job_id}-{attempt}"
        self._add(
            Assigned(
                at=self._now(), miner_id=miner_id, job_id=job_id, lease_id=lease_id, attempt=attempt
            )
        )
        if self._chance(0.3):
            asked_at = self._now()
            self._add(Kept(at=self._now(), miner_id=miner_id, lease_id=lease_id, asked_at=asked_at))
        key = job_id.replace("job", "key")
        sent = Sent(
            at=self._now(),
            miner_id=miner_id,
            lease_id=lease_id,
            result=f"{key} by {miner_id} in {attempt}"
            if outcome in ("completed", "lost")
            else None,
            is_retryable=outcome != "final",
        )
        # A lost lease may send what it likes: that is what fencing is for.
        for _ in range(self._rng.choice([1, 1, 2])):
            self._add(replace(sent, at=self._now()))
        if outcome != "lost" and self._chance(0.8):
            self._add(Acked(at=self._now(), miner_id=miner_id, lease_id=lease_id))
        return outcome in ("completed", "final")

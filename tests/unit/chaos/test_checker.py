"""The checker clears every good history, and finds every single thing that is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from chaos.checker import Breach, Verdict, check
from chaos.history import (
    Acked,
    Acknowledged,
    Assigned,
    Attempted,
    CancelAsked,
    Counted,
    Kept,
    Receipted,
    Refused,
    Seen,
    Sent,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.chaos.histories import ECHO, MAX_ATTEMPTS, History

SEEDS = st.integers(0, 2**32)


def verdict(history: History) -> Verdict:
    """Checks a history as chaos does."""
    return check(history.events, max_attempts=MAX_ATTEMPTS, echoes=[ECHO])


@given(SEEDS, st.integers(0, 40))
def test_a_good_history_is_clean(seed: int, jobs: int) -> None:
    assert verdict(History(seed, jobs)).findings == ()


@given(SEEDS)
def test_the_order_of_the_events_does_not_matter(seed: int) -> None:
    history = History(seed, 20)
    random.Random(seed).shuffle(history.events)
    assert verdict(history).findings == ()


def _last(history: History, status: str, *, by_echo: bool = False) -> Seen:
    """Returns the last sight of some job with this end."""
    found = [
        seen
        for seen in history.of(Seen)
        if seen.is_last and seen.status == status and (seen.miner_id == ECHO) == by_echo
    ]
    assume(found)
    return found[0]


def _acknowledged(history: History) -> Acknowledged:
    found = history.of(Acknowledged)
    assume(found)
    return found[0]


def lose_a_job(history: History) -> None:
    gone = _acknowledged(history).job_id
    history.events = [
        event for event in history.events if not isinstance(event, Seen) or event.job_id != gone
    ]


def list_a_job_of_nobody(history: History) -> None:
    history.events.append(replace(_last(history, "completed"), key="nobody", job_id="job-x"))


def keep_a_refused_job(history: History) -> None:
    seen = _last(history, "completed")
    attempts = [event for event in history.of(Attempted) if event.key == seen.key]
    history.events += [Refused(at=event.at, key=seen.key, reason="X") for event in attempts]


def double_a_job(history: History) -> None:
    history.events.append(replace(_last(history, "completed"), job_id="job-x"))


def answer_a_repetition_with_another_job(history: History) -> None:
    history.events.append(replace(_acknowledged(history), job_id="job-x"))


def leave_a_job_running(history: History) -> None:
    history.swap(_last(history, "completed"), status="running")


def change_an_end(history: History) -> None:
    last = _last(history, "completed")
    history.events.append(replace(last, is_last=False, result=last.result + "!"))


def miscount(history: History) -> None:
    (counted,) = history.of(Counted)
    history.swap(counted, completed=counted.completed + 1)


def _assigned(history: History) -> Assigned:
    found = history.of(Assigned)
    assume(found)
    return found[0]


def give_a_lease_twice(history: History) -> None:
    history.events.append(replace(_assigned(history), miner_id="gamma"))


def count_attempts_down(history: History) -> None:
    lease = _assigned(history)
    history.events.append(replace(lease, at=lease.at + 1e6, attempt=0, lease_id="lease-older"))


def keep_a_lease_beside_a_newer_one(history: History) -> None:
    lease = _assigned(history)
    newer = replace(lease, miner_id="gamma", attempt=99, lease_id="lease-x")
    kept = Kept(
        at=lease.at + 2, asked_at=lease.at + 1, miner_id=lease.miner_id, lease_id=lease.lease_id
    )
    history.events += [newer, kept]


def give_a_completed_job_again(history: History) -> None:
    last = _last(history, "completed")
    lease = Assigned(at=1e9, miner_id="gamma", job_id=last.job_id, lease_id="l", attempt=99)
    history.events.append(lease)


def take_the_result_of_another_lease(history: History) -> None:
    last = _last(history, "completed")
    history.swap(last, result=f"{last.key} by somebody else")


def garble_an_echo(history: History) -> None:
    history.swap(_last(history, "completed", by_echo=True), result="another word")


def complete_without_a_lease(history: History) -> None:
    last = _last(history, "completed")
    history.events = [
        event
        for event in history.events
        if not isinstance(event, Assigned) or event.job_id != last.job_id
    ]


def _receipt(history: History) -> Receipted:
    found = history.of(Receipted)
    assume(found)
    return found[0]


def drop_a_receipt(history: History) -> None:
    history.events.remove(_receipt(history))


def double_a_receipt(history: History) -> None:
    history.events.append(replace(_receipt(history), leaf_index=len(history.of(Receipted))))


def leave_a_gap_in_the_ledger(history: History) -> None:
    history.swap(_receipt(history), leaf_index=len(history.of(Receipted)))


def break_an_acknowledgement(history: History) -> None:
    acked = {event.lease_id for event in history.of(Acked)}
    good = [s for s in history.of(Sent) if s.result is not None and s.lease_id in acked]
    assume(good)
    job_id = good[0].lease_id.removeprefix("lease-").rpartition("-")[0]
    (last,) = [seen for seen in history.of(Seen) if seen.is_last and seen.job_id == job_id]
    history.swap(last, status="failed", attempt=MAX_ATTEMPTS)


def fail_without_a_cause(history: History) -> None:
    history.swap(_last(history, "completed"), status="failed", attempt=MAX_ATTEMPTS - 1)


def cancel_without_a_wish(history: History) -> None:
    last = _last(history, "cancelled")
    history.events = [
        event
        for event in history.events
        if not isinstance(event, CancelAsked) or event.job_id != last.job_id
    ]


def _set_aside(history: History, *, vanished: int) -> None:
    failed = _last(history, "failed")
    history.events = [
        replace(event, error_code="POISON", vanished=vanished)
        if isinstance(event, Seen) and event.job_id == failed.job_id
        else event
        for event in history.events
    ]


def set_aside_after_one_vanished(history: History) -> None:
    _set_aside(history, vanished=1)


WRONGS: list[tuple[Callable[[History], None], Breach]] = [
    (lose_a_job, Breach.LOST),
    (list_a_job_of_nobody, Breach.UNEXPECTED),
    (keep_a_refused_job, Breach.UNEXPECTED),
    (double_a_job, Breach.DOUBLED),
    (answer_a_repetition_with_another_job, Breach.DOUBLED),
    (leave_a_job_running, Breach.UNFINISHED),
    (change_an_end, Breach.CHANGED),
    (miscount, Breach.CHANGED),
    (give_a_lease_twice, Breach.NOT_INCREASING),
    (count_attempts_down, Breach.NOT_INCREASING),
    (keep_a_lease_beside_a_newer_one, Breach.TWO_LEASES),
    (give_a_completed_job_again, Breach.TWO_LEASES),
    (take_the_result_of_another_lease, Breach.FOREIGN_RESULT),
    (garble_an_echo, Breach.FOREIGN_RESULT),
    (complete_without_a_lease, Breach.FOREIGN_RESULT),
    (drop_a_receipt, Breach.RECEIPTS),
    (double_a_receipt, Breach.RECEIPTS),
    (leave_a_gap_in_the_ledger, Breach.RECEIPTS),
    (break_an_acknowledgement, Breach.BROKEN_ACK),
    (fail_without_a_cause, Breach.UNEXPLAINED),
    (cancel_without_a_wish, Breach.UNEXPLAINED),
    (set_aside_after_one_vanished, Breach.UNEXPLAINED),
]


@pytest.mark.parametrize(("wrong", "breach"), WRONGS, ids=lambda it: getattr(it, "__name__", ""))
@settings(max_examples=20)
@given(SEEDS)
def test_one_wrong_is_found(wrong: Callable[[History], None], breach: Breach, seed: int) -> None:
    history = History(seed, 40)
    wrong(history)
    assert breach in {finding.breach for finding in verdict(history).findings}


@given(SEEDS)
def test_a_job_with_which_two_miners_vanished_may_be_set_aside(seed: int) -> None:
    history = History(seed, 40)
    _set_aside(history, vanished=2)
    assert verdict(history).findings == ()
    assert verdict(history).set_aside == 1


def test_every_breach_is_tried() -> None:
    assert {breach for _, breach in WRONGS} == set(Breach)

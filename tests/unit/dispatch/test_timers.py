"""Timers that are withdrawn are gone, and so is what they were for."""

from __future__ import annotations

import gc
import random

import pytest

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import LiveJob, Now
from aitbc_server.dispatch.timers import Timers
from tests.factories import instant, live_job, session

MANY = 20_000
DAY_S = 86_400


def deadline(seconds: float) -> int:
    return instant(seconds).wall_us


def store_all(core: Core, now: Now) -> None:
    """Takes turns, and stores what is proposed, until nothing is."""
    while True:
        core.tick(now)
        core.match(now)
        effects = core.effects.take()
        if not (effects.begins or effects.endings):
            return
        core.begun(effects.begins, frozenset(one.job_id for one in effects.begins), now)
        core.ended(effects.endings, frozenset(one.job_id for one in effects.endings), now)


def cancel_all(core: Core, now: Now) -> None:
    """Cancels every job; miners that hold any give it up."""
    for job in core.jobs.values():
        core.cancel(job, now)
    for lease in core.leases.by_id.values():
        core.give_up(lease, code="CANCELLED", message="", retryable=False, now=now)


def live_jobs() -> int:
    gc.collect()
    return sum(isinstance(thing, LiveJob) for thing in gc.get_objects())


def test_calls_are_made_in_the_order_of_their_times_and_once() -> None:
    timers, made = Timers(), list[str]()
    named = timers.calling(lambda key, now: made.append(key))
    for key, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        named.set(key, when)
    assert timers.next() == 1.0
    timers.run(Now(2.0, 0))
    assert made == ["a", "b"]
    timers.run(Now(9.0, 0))
    assert made == ["a", "b", "c"]
    assert (timers.next(), len(timers), len(named)) == (None, 0, 0)


def test_a_timer_that_is_moved_or_withdrawn_is_not_called_at_its_old_time() -> None:
    timers, made = Timers(), list[tuple[str, float]]()
    named = timers.calling(lambda key, now: made.append((key, now.mono)))
    named.set("moved", 1.0)
    named.set("moved", 5.0)
    named.set("withdrawn", 1.0)
    named.cancel("withdrawn")
    named.cancel("never set")
    assert timers.next() == 5.0
    timers.run(Now(4.0, 0))
    assert made == []
    timers.run(Now(5.0, 0))
    assert made == [("moved", 5.0)]


def test_a_call_may_withdraw_another_that_is_due_and_set_one_for_now() -> None:
    timers, made = Timers(), list[str]()

    def first(key: str, now: Now) -> None:
        made.append(key)
        second.cancel("x")
        second.set("y", now.mono)

    firsts = timers.calling(first)
    second = timers.calling(lambda key, now: made.append(key))
    firsts.set("a", 1.0)
    second.set("x", 2.0)
    timers.run(Now(3.0, 0))
    assert made == ["a", "y"]


def test_a_call_that_raises_is_made_again_and_keeps_no_other_from_being_made() -> None:
    timers, made = Timers(), list[tuple[str, float]]()

    def call(key: str, now: Now) -> None:
        made.append((key, now.mono))
        if key.startswith("bad") and now.mono < 4.0:
            raise RuntimeError(key)

    named = timers.calling(call)
    for number, key in enumerate(("bad-1", "good", "bad-2")):
        named.set(key, float(number))
    with pytest.raises(RuntimeError, match="bad-1"):
        timers.run(Now(3.0, 0))
    assert made == [("bad-1", 3.0), ("good", 3.0), ("bad-2", 3.0)]
    assert timers.next() == 4.0
    timers.run(Now(4.0, 0))
    assert made[3:] == [("bad-1", 4.0), ("bad-2", 4.0)]
    assert timers.next() is None


def test_any_sequence_calls_what_is_set_and_keeps_little_more() -> None:
    dice = random.Random(4)
    timers, made, wanted = Timers(), list[tuple[str, float]](), dict[str, float]()
    named = timers.calling(lambda key, now: made.append((key, wanted.pop(key))))
    for step in range(50_000):
        key = f"{dice.randrange(3_000)}"
        if dice.random() < 0.5:
            named.cancel(key)
            wanted.pop(key, None)
        else:
            wanted[key] = step + dice.randrange(1, 20_000)
            named.set(key, wanted[key])
        if step % 100 == 0:
            timers.run(Now(float(step), 0))
            assert not made or made[-1][1] <= step
            assert all(when > step for when in wanted.values())
            assert timers.next() == min(wanted.values(), default=None)
        assert len(timers) <= 2 * len(wanted) + 1_001
    assert len(named) == len(wanted)


@pytest.mark.parametrize("state", ["pending", "running", "claimed"])
def test_cancelled_jobs_with_a_long_timeout_leave_nothing(state: str) -> None:
    core, now = Core(lease_s=15), instant()
    before = live_jobs()
    if state == "running":
        core.sessions.open(session(window=MANY, heard_at=now.mono), [], now)
    for _ in range(MANY):
        job = live_job(deadline_us=deadline(DAY_S))
        core.submit(job, now)
        if state == "claimed":
            core.claim(job, "poller", ["m"], now)
    store_all(core, now)
    assert len(core.leases.by_id) == (0 if state == "pending" else MANY)
    cancel_all(core, now)
    del job
    for opened in core.sessions.by_miner.values():
        opened.outbox.assignments.clear()
    store_all(core, now)
    core.effects.take()
    assert not core.jobs
    assert core.timer_entries <= 2_100
    assert live_jobs() == before


def test_jobs_that_wait_to_be_tried_again_leave_no_timers_when_they_end() -> None:
    core, now = Core(lease_s=15), instant()
    opened = session(window=MANY, heard_at=now.mono)
    core.sessions.open(opened, [], now)
    for _ in range(MANY):
        core.submit(live_job(deadline_us=deadline(DAY_S)), now)
    store_all(core, now)
    for lease in list(core.leases.by_id.values()):
        core.give_up(lease, code="X", message="", retryable=True, now=now)
    store_all(core, now)
    assert core.timer_entries >= 3 * MANY
    cancel_all(core, now)
    store_all(core, now)
    assert not core.jobs
    assert core.timer_entries <= 2_100


def test_a_miner_that_comes_and_goes_leaves_no_timers() -> None:
    core, now = Core(lease_s=3_600), instant()
    for _ in range(MANY):
        core.sessions.open(session(heard_at=now.mono), [], now)
    assert core.timer_entries <= 1_100

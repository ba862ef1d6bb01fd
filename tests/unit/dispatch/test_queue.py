"""A model's queue: priority first, then fair turns between owners, then age."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.dispatch.queue import LaneQueue
from tests.factories import live_job


def test_a_higher_priority_goes_first() -> None:
    queue = LaneQueue()
    low, high = live_job(priority=0), live_job(priority=5)
    queue.push(low)
    queue.push(high)
    assert [queue.pop(), queue.pop()] == [high, low]


def test_a_flood_of_one_owner_does_not_starve_another() -> None:
    queue = LaneQueue()
    for _ in range(1000):
        queue.push(live_job(owner="flood"))
    single = live_job(owner="single")
    queue.push(single)
    assert single in [queue.pop() for _ in range(2)]


def test_a_retried_job_keeps_its_age() -> None:
    queue = LaneQueue()
    first, retried = live_job(), live_job(attempt=1)
    queue.push(first)
    queue.push(retried)
    assert queue.pop() is retried


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.sampled_from("abc")), max_size=30),
    st.randoms(use_true_random=False),
)
def test_peek_and_pop_agree_and_nothing_is_lost(
    jobs: list[tuple[int, str]], chance: random.Random
) -> None:
    queue = LaneQueue()
    pushed = [live_job(priority=priority, owner=owner) for priority, owner in jobs]
    for job in pushed:
        queue.push(job)
    gone = [job for job in pushed if chance.random() < 0.2]
    for job in gone:
        queue.remove(job)
        assert job.ticket is None
    order = queue.peek(100)
    first = order[:1]
    assert [queue.ahead_of(job) for job in order] == list(range(len(order)))
    popped = []
    while queue:
        assert queue.head() is queue.peek(1)[0]
        popped.append(queue.pop())
    assert popped[:1] == first
    assert {job.job_id for job in popped} == {job.job_id for job in pushed if job not in gone}
    assert [job.priority for job in popped] == sorted((j.priority for j in popped), reverse=True)


def test_a_place_in_a_long_line_is_counted_past_the_jobs_that_left() -> None:
    queue = LaneQueue()
    flood = [live_job(owner="flood") for _ in range(3000)]
    single = live_job(owner="single")
    for job in [*flood, single]:
        queue.push(job)
    for job in flood[100:2000]:
        queue.remove(job)
    retried = live_job(owner="flood", attempt=1)
    queue.push(retried)
    assert queue.ahead_of(single) == 1
    assert queue.ahead_of(retried) == 0
    # Those that are left, the single one, and the retried one.
    assert queue.ahead_of(flood[2500]) == 100 + 500 + 2

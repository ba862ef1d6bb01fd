from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.auth.buckets import Buckets


@given(
    st.floats(0.01, 10_000),
    st.integers(1, 1000),
    st.lists(st.floats(0, 10, allow_nan=False), max_size=200),
)
def test_never_more_than_the_bucket_and_its_refill_is_taken(
    rate: float, size: int, pauses: list[float]
) -> None:
    buckets, now, taken = Buckets(), 1e6, 0
    began = now
    for pause in pauses:
        now += pause / rate
        taken += buckets.take("a", rate, size, now) == 0
    assert taken <= size + (now - began) * rate + 0.02


@given(st.floats(0.01, 10_000), st.integers(1, 1000))
def test_who_waits_as_told_is_let_in(rate: float, size: int) -> None:
    buckets, now = Buckets(), 1e6
    for _ in range(size):
        assert buckets.take("a", rate, size, now) == 0
    wait_s = buckets.take("a", rate, size, now)
    assert 0 < wait_s <= 1.001 / rate
    assert buckets.take("a", rate, size, now + wait_s) == 0


def test_a_slow_caller_is_never_refused() -> None:
    buckets = Buckets()
    assert all(buckets.take("a", 10, 1, number / 10) == 0 for number in range(1000))


def test_memory_is_bounded_whoever_calls() -> None:
    buckets = Buckets(most=100)
    for number in range(10_000):
        buckets.take(f"address {number}", 1, 1, 0.0)
        assert len(buckets) <= 100


def test_who_is_out_of_tokens_is_not_forgotten_for_those_who_are_not() -> None:
    buckets = Buckets(most=100)
    for number in range(99):
        buckets.take(f"idle {number}", 1, 10, 0.0)
    assert buckets.take("busy", 1, 1, 10.0) == 0
    for number in range(50):
        buckets.take(f"new {number}", 1, 10, 10.0)
    assert buckets.take("busy", 1, 1, 10.0) > 0


def test_many_addresses_at_once_do_not_fill_anybodys_bucket_again() -> None:
    buckets = Buckets(most=100)
    for _ in range(10):
        buckets.take("busy", 1, 10, 0.0)
    for number in range(1000):
        buckets.take(f"address {number}", 1, 10, 0.0)
    assert buckets.take("busy", 1, 10, 0.0) > 0

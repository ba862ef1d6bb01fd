"""When a delivery is tried again."""

from __future__ import annotations

import random

import pytest

from aitbc_server.webhooks.schedule import STANDARD_DELAYS_S, Schedule

STANDARD = Schedule(STANDARD_DELAYS_S, random.Random(7))


def test_the_delays_are_those_of_the_specification_within_a_tenth() -> None:
    delays = [STANDARD.next_delay_s(tries) for tries in range(1, 10)]
    for delay, standard in zip(delays, STANDARD_DELAYS_S, strict=True):
        assert delay == pytest.approx(standard, rel=0.1)


def test_after_ten_attempts_no_attempt_is_left() -> None:
    assert STANDARD.next_delay_s(10) is None


def test_no_two_deliveries_come_back_at_once() -> None:
    assert len({STANDARD.next_delay_s(1) for _ in range(100)}) == 100


def test_what_the_receiver_asks_for_counts_when_it_is_longer() -> None:
    assert STANDARD.next_delay_s(1, 100.0) == 100.0
    assert STANDARD.next_delay_s(2, 1.0) == pytest.approx(300, rel=0.1)


def test_what_the_receiver_asks_for_gives_no_further_attempt() -> None:
    assert STANDARD.next_delay_s(10, 1.0) is None

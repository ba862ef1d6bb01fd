from __future__ import annotations

import random

from aitbc_miner.backoff import Backoff


class LongestWait(random.Random):
    """Always draws the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_waits_grow_with_the_time_waited_up_to_a_bound_and_a_success_resets_them() -> None:
    backoff = Backoff(LongestWait())
    assert [backoff.next_s() for _ in range(6)] == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    waited_s = 4.4
    for _ in range(50):
        wait_s = backoff.next_s()
        assert wait_s <= max(1.0, waited_s / 4)
        waited_s += wait_s
    assert wait_s == 10.0
    backoff.reset()
    assert backoff.next_s() == 0.2


def test_waits_are_spread_over_the_whole_range() -> None:
    waits = [Backoff(random.Random(seed)).next_s() for seed in range(100)]
    assert min(waits) < 0.02
    assert max(waits) > 0.18

from __future__ import annotations

import random

from aitbc_miner.backoff import Backoff


class LongestWait(random.Random):
    """Always draws the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_longest_wait_doubles_up_to_a_bound_and_a_success_resets_it() -> None:
    backoff = Backoff(LongestWait())
    assert [backoff.next_s() for _ in range(9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
    backoff.reset()
    assert backoff.next_s() == 0.2


def test_waits_are_spread_over_the_whole_range() -> None:
    waits = [Backoff(random.Random(seed)).next_s() for seed in range(100)]
    assert min(waits) < 0.02
    assert max(waits) > 0.18

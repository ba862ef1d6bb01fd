"""How long jobs wait and claims last."""

from __future__ import annotations

import pytest

from aitbc_server.domain.jobs import claim_duration_s, retry_delay_s


def test_retries_wait_longer_each_time_up_to_a_bound() -> None:
    delays = [retry_delay_s(attempt) for attempt in range(1, 11)]
    assert delays == sorted(delays)
    assert delays[0] < 1
    assert delays[-1] == 30


@pytest.mark.parametrize(("asked", "seconds"), [(None, 572), (256, 188), (10_000, 5060)])
def test_a_claim_lasts_as_the_work_asks(asked: int | None, seconds: float) -> None:
    assert claim_duration_s(asked) == seconds

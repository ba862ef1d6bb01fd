from __future__ import annotations

from aitbc_server.web.waits import MINUTES, Waits


def test_each_minute_keeps_the_longest_wait_that_was_seen_in_it() -> None:
    waits = Waits(0)
    for now_s, wait_s in ((1, 2.0), (30, 5.0), (59, 1.0), (60, 0.5), (200, 4.0)):
        waits.take(wait_s, now_s)
    assert waits.longest_s()[-4:] == (5.0, 0.5, 0.0, 4.0)
    assert len(waits.longest_s()) == MINUTES


def test_an_hour_later_nothing_is_left() -> None:
    waits = Waits(0)
    waits.take(7.0, 1)
    waits.take(0.0, 1_000_000)
    assert set(waits.longest_s()) == {0.0}

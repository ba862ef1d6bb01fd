from __future__ import annotations

from aitbc_server.web.pulse import MINUTES, Counts, Pulse


def jobs_of(pulse: Pulse) -> list[int]:
    return [minute.jobs for minute in pulse.minutes()]


def test_counts_before_the_first_look_belong_to_no_minute() -> None:
    pulse = Pulse(0)
    pulse.take(Counts(jobs=1000, tokens=5), 1)
    assert jobs_of(pulse) == [0] * MINUTES


def test_what_happened_belongs_to_the_minute_in_which_it_was_seen() -> None:
    pulse = Pulse(0)
    for now_s, jobs in ((0, 10), (59, 13), (60, 14), (200, 20)):
        pulse.take(Counts(jobs=jobs, tokens=2 * jobs), now_s)
    assert jobs_of(pulse)[-4:] == [3, 1, 0, 6]
    assert [minute.tokens for minute in pulse.minutes()][-4:] == [6, 2, 0, 12]


def test_an_hour_later_nothing_is_left() -> None:
    pulse = Pulse(0)
    pulse.take(Counts(jobs=0, tokens=0), 0)
    pulse.take(Counts(jobs=7, tokens=0), 1)
    pulse.take(Counts(jobs=7, tokens=0), 1_000_000)
    assert jobs_of(pulse) == [0] * MINUTES

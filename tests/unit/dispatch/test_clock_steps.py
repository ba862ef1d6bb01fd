"""A wall clock that was set back between two processes holds no job back."""

from __future__ import annotations

from aitbc_server.dispatch.core import Core
from aitbc_server.domain.jobs import LiveRecord, retry_delay_s
from tests.factories import instant, new_job, session

HOUR_US = 3_600_000_000


def test_a_retry_set_by_a_clock_that_was_ahead_comes_after_its_own_delay() -> None:
    new, now = new_job(), instant()
    core = Core(lease_s=15)
    core.restore(
        [
            LiveRecord(
                job_id=new.job_id,
                owner=new.owner,
                model=new.model,
                priority=0,
                attempt=2,
                max_attempts=3,
                max_tokens=None,
                created_us=new.created_us,
                deadline_us=None,
                not_before_us=now.wall_us + HOUR_US,
                miner_id=None,
                lease_id=None,
                started_us=None,
                claim_s=None,
                cancel_requested=False,
                is_abandoned=False,
                failed_miners=(),
                spec_bytes=0,
                vanishes=0,
                free_returns=0,
            )
        ],
        now,
    )
    core.sessions.open(session(heard_at=now.mono), [], now)
    core.match(now)
    assert core.effects.take().begins == []
    later = instant(retry_delay_s(2))
    core.tick(later)
    core.match(later)
    assert [begin.job_id for begin in core.effects.take().begins] == [new.job_id]

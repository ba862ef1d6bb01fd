"""Who waits for a job: it is left when as many requests have left as had come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.wanting import is_left, join, leave
from aitbc_server.domain.jobs import JobStatus
from tests.factories import new_job


def live(**fields: object) -> LiveJob:
    """Returns a job that somebody has just submitted."""
    new = new_job()
    job = LiveJob(
        job_id=new.job_id,
        owner=new.owner,
        model=new.model,
        priority=0,
        created_us=new.created_us,
        max_attempts=1,
        max_tokens=None,
    )
    for name, value in fields.items():
        setattr(job, name, value)
    return job


def found(*jobs: LiveJob) -> list[tuple[str, JobStatus]]:
    """Returns what a request that comes again finds."""
    return [(job.job_id, JobStatus.PENDING) for job in jobs]


@given(st.integers(0, 5))
def test_the_last_request_to_leave_is_told_so(others: int) -> None:
    job = live()
    for _ in range(others):
        assert join({job.job_id: job}, found(job)) is None
    assert [leave(job) for _ in range(others + 1)] == [False] * others + [True]


def test_after_a_restart_nobody_waits_until_somebody_comes() -> None:
    job = live(wanted=0)
    assert leave(job)
    assert join({job.job_id: job}, found(job)) is None
    assert leave(job)


def test_a_job_that_somebody_reads_is_left_with_the_last_reader() -> None:
    job = live(readers=2)
    assert not leave(job)
    job.readers -= 1
    assert not is_left(job)
    job.readers -= 1
    assert is_left(job)
    # Who comes again wants it.
    assert join({job.job_id: job}, found(job)) is None
    assert not is_left(job)


def test_a_job_that_nobody_let_go_of_is_not_left() -> None:
    assert not is_left(live())
    assert not is_left(live(wanted=0))


def test_of_jobs_one_of_which_is_leaving_none_is_joined() -> None:
    first, second = live(), live(is_abandoned=True)
    jobs = {job.job_id: job for job in (first, second)}
    assert join(jobs, found(first, second)) == second.job_id
    assert first.wanted == 1


def test_a_job_that_ended_in_this_moment_is_looked_at_again() -> None:
    gone, other = live(), live()
    assert join({other.job_id: other}, found(other, gone)) == gone.job_id
    assert join({}, [(gone.job_id, JobStatus.COMPLETED)]) is None

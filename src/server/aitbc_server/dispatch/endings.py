"""How an attempt or a wait ends without a result: the policy of retries, as values to be stored."""

from __future__ import annotations

from aitbc_server.dispatch.live import Lease, LiveJob, Now
from aitbc_server.domain.jobs import Ending, JobStatus, retry_delay_s

LEASE_EXPIRED = "LEASE_EXPIRED"
_CANCELLED = (JobStatus.CANCELLED, "CANCELLED", "cancelled by request")


def end_of_attempt(lease: Lease, code: str, message: str, now: Now, *, retryable: bool) -> Ending:
    """Returns the end of an attempt: tried again while that may help and attempts are left."""
    job, not_before_us = lease.job, None
    status = JobStatus.FAILED
    if job.cancel_requested:
        status, code, message = _CANCELLED
    elif retryable and job.attempt < job.max_attempts:
        status = JobStatus.PENDING
        # A lease that expired was a wait already.
        delay_s = retry_delay_s(1 if code == LEASE_EXPIRED else job.attempt)
        not_before_us = now.wall_us + int(delay_s * 1e6)
    return Ending(
        job_id=job.job_id,
        lease_id=lease.lease_id,
        status=status,
        error_code=code,
        error_message=message,
        ended_us=now.wall_us,
        not_before_us=not_before_us,
    )


def end_of_undelivered(lease: Lease, now: Now) -> Ending:
    """Returns the end of a lease that its miner never began on: it does not count as an attempt."""
    status, code, message = JobStatus.PENDING, "NOT_DELIVERED", "the miner never began on it"
    if lease.job.cancel_requested:
        status, code, message = _CANCELLED
    return Ending(
        job_id=lease.job.job_id,
        lease_id=lease.lease_id,
        status=status,
        error_code=code,
        error_message=message,
        ended_us=now.wall_us,
        is_free=True,
    )


def end_of_wait(job: LiveJob, code: str, message: str, now: Now) -> Ending:
    """Returns the end of a job that no miner has: failed, unless its client cancelled it."""
    status = JobStatus.FAILED
    if job.cancel_requested:
        status, code, message = _CANCELLED
    return Ending(
        job_id=job.job_id,
        lease_id=None,
        status=status,
        error_code=code,
        error_message=message,
        ended_us=now.wall_us,
    )

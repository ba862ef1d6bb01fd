"""How an attempt or a wait ends without a result: the policy of retries, as values to be stored."""

from __future__ import annotations

from aitbc_server.dispatch.live import Lease, LiveJob, Now
from aitbc_server.dispatch.vanishing import Verdict
from aitbc_server.domain.job_errors import ABANDONED
from aitbc_server.domain.jobs import Ending, JobStatus, retry_delay_s

LEASE_EXPIRED = "LEASE_EXPIRED"
NOT_DELIVERED = "NOT_DELIVERED"
# Leases of a job that its miners never began on, and that do not count as attempts: more are a
# miner that flaps, which must not keep the job for ever.
_FREE_RETURNS = 3
# Leases of a job in all, below which one that failed by its miner's fault is no attempt: a job must
# not wait for ever for miners that cannot serve its model.
_FREE_FAULTS = 16
_CANCELLED = (JobStatus.CANCELLED, "CANCELLED", "cancelled by request")
_ABANDONED = (JobStatus.CANCELLED, ABANDONED, "nobody waits for its answer any more")


def end_of_attempt(
    lease: Lease,
    code: str,
    message: str,
    now: Now,
    *,
    retryable: bool,
    is_miners: bool = False,
    verdict: Verdict | None = None,
    at_once: bool = False,
) -> Ending:
    """Returns the end of an attempt: tried again while that may help and attempts are left.

    `is_miners`: the fault is the miner's, and not counted as long as that is not all that happens.
    `verdict`: why the job is set aside, whatever is left; `at_once`: it does not wait before.
    """
    job, not_before_us = lease.job, None
    status = JobStatus.FAILED
    is_free = is_miners and job.attempt < _FREE_FAULTS and not job.cancel_requested
    if job.cancel_requested:
        status, code, message = _cancellation(job)
        verdict = None
    elif retryable and verdict is None and (is_free or job.attempt < job.max_attempts):
        status = JobStatus.PENDING
        # A lease that expired was a wait already.
        delay_s = retry_delay_s(1 if code == LEASE_EXPIRED else job.attempt)
        not_before_us = None if at_once else now.wall_us + int(delay_s * 1e6)
    return Ending(
        job_id=job.job_id,
        lease_id=lease.lease_id,
        status=status,
        error_code=code,
        error_message=message,
        ended_us=now.wall_us,
        not_before_us=not_before_us,
        is_free=is_free and status is JobStatus.PENDING,
        vanishes=len(job.vanished),
        job_code=verdict.code if verdict else None,
        job_message=verdict.message if verdict else None,
    )


def end_of_undelivered(lease: Lease, now: Now) -> Ending:
    """Returns the end of a lease that its miner never began on: the first ones are no attempts."""
    job = lease.job
    status, code, message = JobStatus.PENDING, NOT_DELIVERED, "the miner never began on it"
    if job.cancel_requested:
        status, code, message = _cancellation(job)
    elif job.free_returns >= _FREE_RETURNS:
        return end_of_attempt(lease, code, message, now, retryable=True)
    return Ending(
        job_id=job.job_id,
        lease_id=lease.lease_id,
        status=status,
        error_code=code,
        error_message=message,
        ended_us=now.wall_us,
        is_free=True,
        vanishes=len(job.vanished),
    )


def end_of_wait(job: LiveJob, code: str, message: str, now: Now) -> Ending:
    """Returns the end of a job that no miner has: failed, unless its client cancelled it."""
    status = JobStatus.FAILED
    if job.cancel_requested:
        status, code, message = _cancellation(job)
    return Ending(
        job_id=job.job_id,
        lease_id=None,
        status=status,
        error_code=code,
        error_message=message,
        ended_us=now.wall_us,
        vanishes=len(job.vanished),
    )


def _cancellation(job: LiveJob) -> tuple[JobStatus, str, str]:
    return _ABANDONED if job.is_abandoned else _CANCELLED

"""Everything that a client raises, as one tree.

AitbcError                 base; `error_code` is the coordinator's, in UPPER_SNAKE
+-- InvalidRequest         a field is wrong: `field` names it
+-- NotAuthenticated       no key, or not a valid one
+-- NotPermitted           the key is for something else
+-- NotFound               no such object, or not the caller's
+-- Conflict               the object is in another state than the call needs
+-- LimitExceeded          a limit or a queue is full: `retry_after_s` says when to come back
+-- Unavailable            the coordinator cannot be reached, or does not serve now
+-- DeadlineExceeded       the time given to the call is over; the job goes on
+-- UnexpectedAnswer       the coordinator failed, or is no coordinator
+-- JobUnsuccessful        the job ended without a result: `job` says how
|   +-- JobFailed
|   +-- JobCancelled
+-- ReceiptInvalid         a receipt does not say what its signatures and proofs say
"""

from __future__ import annotations

from aitbc_client.models import Job, JobStatus


class AitbcError(Exception):
    """Base of all errors of a client. `str(error)` is a sentence for people."""

    def __init__(
        self,
        message: str,
        *,
        error_code: str,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error_code = error_code
        # Path of the field that is wrong, such as `params.max_tokens`.
        self.field = field
        # Seconds after which the same call may succeed.
        self.retry_after_s = retry_after_s


class InvalidRequest(AitbcError):
    """A field of the request is wrong."""


class NotAuthenticated(AitbcError):
    """The coordinator requires a key, and the call has no valid one."""


class NotPermitted(AitbcError):
    """The key may not make this call."""


class NotFound(AitbcError):
    """The object does not exist, or is not the caller's."""


class Conflict(AitbcError):
    """The object is in another state than the call needs."""


class LimitExceeded(AitbcError):
    """A limit or a queue is full."""


class Unavailable(AitbcError):
    """The coordinator cannot be reached, or does not serve now."""


class DeadlineExceeded(AitbcError):
    """The time given to the call is over."""


class UnexpectedAnswer(AitbcError):
    """The coordinator failed, or what answers is no coordinator."""


class JobUnsuccessful(AitbcError):
    """The job ended without a result."""

    def __init__(self, job: Job) -> None:
        failure = job.error
        super().__init__(
            f"{job.job_id} is {job.status}" + (f": {failure.message}" if failure else ""),
            error_code=failure.code if failure else job.status.upper(),
        )
        self.job = job


class JobFailed(JobUnsuccessful):
    """No attempt gave a result."""


class JobCancelled(JobUnsuccessful):
    """The job was cancelled."""


class ReceiptInvalid(AitbcError):
    """A receipt does not hold."""


def ended_well(job: Job) -> Job:
    """Returns a final job that is completed. Raises JobFailed, JobCancelled."""
    if job.status is JobStatus.COMPLETED:
        return job
    raise JobCancelled(job) if job.status is JobStatus.CANCELLED else JobFailed(job)

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

from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from aitbc_client.models import Job


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


_KINDS: dict[grpc.StatusCode, type[AitbcError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: NotAuthenticated,
    grpc.StatusCode.PERMISSION_DENIED: NotPermitted,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def error_of(call: Any) -> AitbcError:
    """Translates a failed gRPC call, synchronous or not, with the details that it carries."""
    code: grpc.StatusCode = call.code()
    error_code, field, retry_after_s = code.name, None, None
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(info):
            error_code = info.reason
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
    message = call.details() or code.name.lower().replace("_", " ")
    kind = _KINDS.get(code, UnexpectedAnswer)
    return kind(message, error_code=error_code, field=field, retry_after_s=retry_after_s)

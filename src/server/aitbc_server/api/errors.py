"""The one table from errors to gRPC codes, and the rich status that carries them over the wire.

Format: google.rpc.Status with an ErrorInfo always, and RetryInfo, BadRequest where they apply
(https://google.aip.dev/193).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from aitbc_server.domain import errors

DOMAIN = "aitbc.v1"
# Told to callers of whatever fails in a way that nobody foresaw. The log has the rest.
INTERNAL_REASON = "INTERNAL"
INTERNAL_MESSAGE = "internal error"

_CODES: tuple[tuple[type[errors.CoordinatorError], grpc.StatusCode], ...] = (
    (errors.InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.Conflict, grpc.StatusCode.ABORTED),
    (errors.StorageBusy, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Exhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a call failed, in the terms that gRPC and REST share."""

    code: grpc.StatusCode
    # UPPER_SNAKE, for programs: `ErrorInfo.reason` and `error_code`.
    reason: str
    # Sentence for people.
    message: str
    # Seconds after which a retry may succeed.
    retry_after_s: float | None = None
    # Path of the field that is wrong.
    field: str | None = None
    # Limit of the caller that is used up.
    quota: errors.Quota | None = None


class CallError(Exception):
    """A call that failed elsewhere: raised by a backend that is not in this process."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """Translates any error; what is not a CoordinatorError becomes INTERNAL and tells nothing."""
    if isinstance(error, CallError):
        return error.failure
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Failure(
                code=code,
                reason=error.reason,
                message=str(error),
                retry_after_s=error.retry_after_s,
                field=error.field if isinstance(error, errors.InvalidArgument) else None,
                quota=error.quota if isinstance(error, errors.Exhausted) else None,
            )
    return Failure(code=grpc.StatusCode.INTERNAL, reason=INTERNAL_REASON, message=INTERNAL_MESSAGE)


def let_go(error: BaseException | None) -> None:
    """Drops the tracebacks of an error that was answered, and of those that it came from.

    A traceback keeps the frames that the error passed, with all their variables. Where one of these
    is a task that failed with the same error, this is a cycle: a large message in it stays until
    cycles are collected.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def to_status(failure: Failure) -> grpc.Status:
    """Returns what `ServicerContext.abort_with_status` takes."""
    return rpc_status.to_status(rich_status(failure))


def rich_status(failure: Failure) -> status_pb2.Status:
    """Returns the status with its details."""
    info = error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN)
    if failure.quota is not None:
        info.metadata.update(_quota_metadata(failure.quota))
    details = [_packed(info)]
    if failure.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(failure.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    if failure.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=failure.field, description=failure.message
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    code: int = failure.code.value[0]
    return status_pb2.Status(code=code, message=failure.message, details=details)


def from_rpc_error(error: grpc.aio.AioRpcError) -> Failure:
    """Reads back what to_status wrote; an error from elsewhere keeps its code as its reason."""
    reason, retry_after_s, field, quota = error.code().name, None, None, None
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has the three methods it reads
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason, quota = info.reason, _quota_in(info.metadata)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            field = bad.field_violations[0].field if bad.field_violations else None
    return Failure(
        code=error.code(),
        reason=reason,
        message=error.details() or error.code().name.lower().replace("_", " "),
        retry_after_s=retry_after_s,
        field=field,
        quota=quota,
    )


def _quota_metadata(quota: errors.Quota) -> dict[str, str]:
    window = {} if quota.window_s is None else {"quota_window_seconds": str(quota.window_s)}
    return {"quota": quota.name, "quota_size": str(quota.size), **window}


def _quota_in(metadata: Mapping[str, str]) -> errors.Quota | None:
    size, window_s = metadata.get("quota_size", ""), metadata.get("quota_window_seconds", "")
    if not size.isdigit():
        return None
    return errors.Quota(
        metadata.get("quota", ""), int(size), int(window_s) if window_s.isdigit() else None
    )


def _packed(message: error_details_pb2.ErrorInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed

"""Translates failed calls."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aitbc_client.errors import (
    AitbcError,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
    UnexpectedAnswer,
)

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

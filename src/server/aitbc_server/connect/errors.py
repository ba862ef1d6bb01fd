"""Failures as Connect and gRPC-Web write them, with the details that they have over gRPC."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2, json_format
from google.rpc import error_details_pb2

from aitbc_server.api.errors import (
    INTERNAL_MESSAGE,
    INTERNAL_REASON,
    Failure,
    failure_of,
    rich_status,
)
from aitbc_server.rest.asgi import Headers
from aitbc_server.rest.errors import (
    STATUS_OF,
    HttpError,
    log_internal,
    retry_header,
    status_headers,
    status_of,
)

_DETAILS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
    )
}
# Connect has its own spelling of one code.
_NAMES = {code: code.name.lower() for code in grpc.StatusCode} | {
    grpc.StatusCode.CANCELLED: "canceled"
}
# Of what only HTTP knows. Clients read the rest, such as 405 and 415, as `unknown`.
_CODES = {
    404: grpc.StatusCode.UNIMPLEMENTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Told(NamedTuple):
    """What a client is told of a call that failed."""

    failure: Failure
    # Status and headers of the response, in the protocol that says it so.
    status: int
    headers: Headers


def told_of(error: Exception, where: str) -> Told:
    """Returns what a client is told of an error; logs one that nobody foresaw, with `where`."""
    if isinstance(error, HttpError):
        code = _CODES.get(error.status, grpc.StatusCode.UNKNOWN)
        failure = Failure(code=code, reason=error.reason, message=str(error))
        return Told(failure, error.status, (*error.headers, *retry_header(error.status, None)))
    failure = failure_of(error)
    status = STATUS_OF[failure.code]
    if status == 500:
        log_internal(error, where)
        failure = Failure(code=failure.code, reason=INTERNAL_REASON, message=INTERNAL_MESSAGE)
        return Told(failure, status, ())
    # What is too large now will be so later.
    retry = retry_header(status_of(failure), failure.retry_after_s)
    return Told(failure, status, (*status_headers(status, failure), *retry))


def error_object(failure: Failure) -> dict[str, Any]:
    """Returns the JSON of an error of Connect."""
    details = [_detail(packed) for packed in rich_status(failure).details]
    return {"code": _NAMES[failure.code], "message": failure.message, "details": details}


def trailers(failure: Failure | None) -> list[tuple[str, str]]:
    """Returns the trailers of a call of gRPC-Web, which may have succeeded."""
    if failure is None:
        return [("grpc-status", "0")]
    status = rich_status(failure)
    return [
        ("grpc-status", str(status.code)),
        ("grpc-message", quote(failure.message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")),
        ("grpc-status-details-bin", _base64(status.SerializeToString())),
    ]


def _detail(packed: any_pb2.Any) -> dict[str, Any]:
    name = packed.type_url.rpartition("/")[2]
    detail = _DETAILS[name].FromString(packed.value)
    debug = json_format.MessageToDict(detail)
    return {"type": name, "value": _base64(packed.value), "debug": debug}


def _base64(value: bytes) -> str:
    return b64encode(value).decode().rstrip("=")

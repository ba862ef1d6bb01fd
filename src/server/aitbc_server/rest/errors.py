"""Failures as HTTP responses: the one table from gRPC codes to statuses, and what only HTTP knows.

    HttpError
    +-- RouteNotFound           404
    +-- MethodNotAllowed        405
    +-- InvalidJson             400
    +-- UnsupportedMediaType    415
    +-- CoordinatorUnreachable  503
    +-- MalformedRequest        400
    +-- HeadersTooLarge         431
    +-- RequestTimeout          408
    +-- CallTimeout             504
    +-- TooManyConnections      503
    +-- TooManyPipelined        429
    +-- Unimplemented           501
    +-- UnexpectedCompression   500

The body is always `{"detail": ..., "error_code": ...}`.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Collection
from typing import ClassVar

import grpc
import orjson
import structlog

from aitbc_server.api.errors import (
    INTERNAL_MESSAGE,
    INTERNAL_REASON,
    CallError,
    Failure,
    failure_of,
)
from aitbc_server.domain.errors import CoordinatorError, PayloadTooLarge, Quota
from aitbc_server.rest.asgi import Headers, Response, json_response

# google/rpc/code.proto gives the mapping; ABORTED and FAILED_PRECONDITION follow it too.
STATUS_OF: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
# What has no gRPC code of its own.
_STATUS_OF_REASON = {PayloadTooLarge.reason: 413}
# Statuses that tell the client when to come back, and when, unless the error knows better.
_RETRIED = frozenset({429, 503})
_RETRY_AFTER_S = 1
# What a 401 must say about how to authenticate; a key is taken as a bearer token, too.
_CHALLENGE: Headers = ((b"www-authenticate", b'Bearer realm="aitbc"'),)

_log = structlog.get_logger()


class HttpError(Exception):
    """Base of the errors that no gRPC method has. `str(error)` is a sentence for people."""

    status: ClassVar[int]
    reason: ClassVar[str]
    cause: ClassVar[str]
    remedy: ClassVar[str]
    # Sentence used when the raise site has nothing more exact to say.
    message: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, headers: Headers = ()) -> None:
        super().__init__(message or self.message)
        self.headers = headers


class RouteNotFound(HttpError):
    """Nothing is at the path."""

    status = 404
    reason = "ROUTE_NOT_FOUND"
    cause = "The API has nothing at this path."
    remedy = "Compare the path with the API reference; the base URL ends with `/api` or without."
    message = "nothing is at this path"


class MethodNotAllowed(HttpError):
    """The path exists, but not for this HTTP method."""

    status = 405
    reason = "METHOD_NOT_ALLOWED"
    cause = "The path does not take this HTTP method."
    remedy = "Use one of the methods in the `Allow` header."

    def __init__(self, allowed: Collection[str]) -> None:
        allow = allow_header(allowed)
        super().__init__(f"this path takes {allow.decode()}", headers=((b"allow", allow),))


class InvalidJson(HttpError):
    """The body is not a JSON object."""

    status = 400
    reason = "INVALID_JSON"
    cause = (
        "The body is not one JSON object in UTF-8, is nested too deeply, holds too much, or has a "
        "name twice in one object."
    )
    remedy = "Send one JSON object; `detail` says where the text goes wrong."


class UnsupportedMediaType(HttpError):
    """The body is not declared as JSON in UTF-8."""

    status = 415
    reason = "UNSUPPORTED_MEDIA_TYPE"
    cause = "The body has no `Content-Type`, another than JSON or another charset, or is packed."
    remedy = "Send `Content-Type: application/json` and a plain body in UTF-8."
    message = "the body must be sent as Content-Type: application/json, in UTF-8, not compressed"


class CoordinatorUnreachable(HttpError):
    """The gateway does not reach its coordinator."""

    status = 503
    reason = "UNAVAILABLE"
    cause = "The gateway cannot reach the coordinator, or lost it during the call."
    remedy = "Wait for the seconds in `Retry-After` and send the request again."
    message = "the coordinator cannot be reached"


class MalformedRequest(HttpError):
    """What came is not HTTP/1.1."""

    status = 400
    reason = "MALFORMED_REQUEST"
    cause = "The bytes are not a valid HTTP/1.1 request, or can be read in two ways."
    remedy = "Use an HTTP client; send either `Content-Length` or `Transfer-Encoding`, once."
    message = "this is not a valid HTTP/1.1 request"


class HeadersTooLarge(HttpError):
    """The request line and headers are larger than the server takes."""

    status = 431
    reason = "HEADERS_TOO_LARGE"
    cause = "The URL and headers are larger, or the headers more, than the server takes."
    remedy = "Send fewer or smaller headers; put what is long into the body."

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the URL and headers must be at most {max_bytes} bytes, in 128 headers")


class RequestTimeout(HttpError):
    """The request did not arrive in time."""

    status = 408
    reason = "REQUEST_TIMEOUT"
    cause = "The headers or the body of the request did not arrive in time."
    remedy = "Send the request again, in one go; split a large batch where the network is slow."
    message = "the request did not arrive in time"


class CallTimeout(HttpError):
    """The answer took too long."""

    status = 504
    reason = "DEADLINE_EXCEEDED"
    cause = "The coordinator did not answer the call in time."
    remedy = "Send the request again, with the same `Idempotency-Key` where it submits."
    message = "the call took too long"


class TooManyConnections(HttpError):
    """The server has as many connections as it takes."""

    status = 503
    reason = "TOO_MANY_CONNECTIONS"
    cause = "The server has as many connections as it takes, of this address or of all."
    remedy = "Wait for the seconds in `Retry-After`; use one connection for many requests."
    message = "too many connections"


class TooManyPipelined(HttpError):
    """Too many requests wait for the answer to one before them."""

    status = 429
    reason = "TOO_MANY_PIPELINED"
    cause = "More than 16 requests were sent on one connection without waiting for an answer."
    remedy = "Wait for answers, or use more connections."
    message = "too many requests wait on this connection"


class Unimplemented(HttpError):
    """Connect or gRPC-Web asks for what neither does here."""

    status = 501
    reason = "UNIMPLEMENTED"
    cause = (
        "Over Connect or gRPC-Web: the method takes a stream of requests, the call has another "
        "number of messages than one, or is compressed in a way that is not known."
    )
    remedy = "Call a method with one request, send one message, and compress with gzip or not."


class UnexpectedCompression(HttpError):
    """A message of Connect or gRPC-Web is compressed, and nobody said how."""

    status = 500
    reason = "UNEXPECTED_COMPRESSION"
    cause = "A message says that it is compressed, and the headers of the call do not say how."
    remedy = "Send `Connect-Content-Encoding: gzip` or `Grpc-Encoding: gzip`, or do not compress."
    message = "a message is compressed, and the headers do not say how"


# For the reference of error codes, beside the domain's.
HTTP_ERRORS: tuple[type[HttpError], ...] = (
    RouteNotFound,
    MethodNotAllowed,
    InvalidJson,
    UnsupportedMediaType,
    CoordinatorUnreachable,
    MalformedRequest,
    HeadersTooLarge,
    RequestTimeout,
    CallTimeout,
    TooManyConnections,
    TooManyPipelined,
    Unimplemented,
    UnexpectedCompression,
)


def error_response(error: Exception, where: str) -> Response:
    """Returns what a client is told of an error; logs one that nobody foresaw, with `where`."""
    if isinstance(error, HttpError):
        return _response(error.status, str(error), error.reason, None, error.headers)
    failure = failure_of(error)
    status = status_of(failure)
    if status == 500:
        log_internal(error, where)
        return _response(500, INTERNAL_MESSAGE, INTERNAL_REASON, None, ())
    headers = status_headers(status, failure)
    return _response(status, failure.message, failure.reason, failure.retry_after_s, headers)


def status_of(failure: Failure) -> int:
    """Returns the HTTP status of a call that failed so."""
    return _STATUS_OF_REASON.get(failure.reason) or STATUS_OF.get(failure.code, 500)


def allow_header(allowed: Collection[str]) -> bytes:
    """Returns the value of `Allow` for a path that is bound under these methods."""
    implied = {"OPTIONS", "HEAD"} if "GET" in allowed else {"OPTIONS"}
    return ", ".join(sorted(implied.union(allowed))).encode()


def status_headers(status: int, failure: Failure) -> Headers:
    """Returns what a status has of headers, when a call fails so."""
    if status == 401:
        return _CHALLENGE
    if status == 429 and failure.quota is not None:
        return _quota_headers(failure.quota, failure.retry_after_s or _RETRY_AFTER_S)
    return ()


def _quota_headers(quota: Quota, retry_after_s: float) -> Headers:
    """Returns the headers of draft-ietf-httpapi-ratelimit-headers, which is not a standard yet."""
    window = "" if quota.window_s is None else f";w={quota.window_s}"
    policy = f'"{quota.name}";q={quota.size}{window}'
    state = f'"{quota.name}";r=0;t={math.ceil(retry_after_s)}'
    return ((b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode()))


def _response(
    status: int, detail: str, error_code: str, retry_after_s: float | None, headers: Headers
) -> Response:
    body = orjson.dumps({"detail": detail, "error_code": error_code})
    return json_response(status, body, (*headers, *retry_header(status, retry_after_s)))


def retry_header(status: int, retry_after_s: float | None) -> Headers:
    """Returns the header that says when to come back, for a status that says to."""
    if status not in _RETRIED:
        return ()
    seconds = _RETRY_AFTER_S if retry_after_s is None else max(1, math.ceil(retry_after_s))
    return ((b"retry-after", b"%d" % seconds),)


def log_internal(error: Exception, where: str) -> None:
    """Logs an error of which callers are told nothing."""
    known = isinstance(error, (CallError, CoordinatorError))
    # Formatted here, because a log renderer may print local variables, and these hold prompts.
    trace = None if known else "".join(traceback.format_exception(error))
    _log.error("call_failed", where=where, error=type(error).__name__, traceback=trace)

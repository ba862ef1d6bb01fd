"""Every error that a client may be told of, as rows: for the documentation, and for OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from aitbc_server.api.errors import INTERNAL_MESSAGE, INTERNAL_REASON, failure_of
from aitbc_server.domain.errors import CoordinatorError, InvalidArgument, PayloadTooLarge
from aitbc_server.rest.errors import HTTP_ERRORS, status_of


class ErrorRow(NamedTuple):
    """One error."""

    # `error_code` over REST, `ErrorInfo.reason` over gRPC.
    reason: str
    status: int
    # Name of the gRPC code; empty for what only HTTP knows.
    code: str
    cause: str
    remedy: str
    # What `detail` may say.
    detail: str


@cache
def error_rows() -> tuple[ErrorRow, ...]:
    """Returns all errors, by status and then by reason."""
    return tuple(sorted(_rows(), key=lambda row: (row.status, row.reason)))


def _rows() -> Iterator[ErrorRow]:
    for kind in _leaves(CoordinatorError):
        example = _example(kind)
        failure = failure_of(example)
        detail = str(example) or kind.cause
        status, code = status_of(failure), failure.code.name
        yield ErrorRow(kind.reason, status, code, kind.cause, kind.remedy, detail)
    for http in HTTP_ERRORS:
        detail = http.message or http.cause
        yield ErrorRow(http.reason, http.status, "", http.cause, http.remedy, detail)
    cause = f"Something that nobody foresaw: `{INTERNAL_MESSAGE}`. The coordinator's log has more."
    remedy = "Retry later; report it if it stays."
    yield ErrorRow(INTERNAL_REASON, 500, "INTERNAL", cause, remedy, INTERNAL_MESSAGE)


def _example(kind: type[CoordinatorError]) -> CoordinatorError:
    if issubclass(kind, InvalidArgument):
        return kind("field", "problem")
    if issubclass(kind, PayloadTooLarge):
        return kind(8 * 1024 * 1024)
    return kind()


def _leaves(kind: type[CoordinatorError]) -> Iterator[type[CoordinatorError]]:
    if "reason" in vars(kind):
        yield kind
    for child in kind.__subclasses__():
        yield from _leaves(child)

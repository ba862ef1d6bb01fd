"""Every error that a client may be told of, as rows: for the documentation, and for OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from aitbc_server.api.errors import INTERNAL_MESSAGE, INTERNAL_REASON, failure_of
from aitbc_server.domain.errors import CoordinatorError, InvalidArgument
from aitbc_server.rest.errors import HTTP_ERRORS, STATUS_OF


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
        example = kind("field", "problem") if issubclass(kind, InvalidArgument) else kind()
        code = failure_of(example).code
        detail = str(example) or kind.cause
        yield ErrorRow(kind.reason, STATUS_OF[code], code.name, kind.cause, kind.remedy, detail)
    for http in HTTP_ERRORS:
        detail = http.message or http.cause
        yield ErrorRow(http.reason, http.status, "", http.cause, http.remedy, detail)
    cause = f"Something that nobody foresaw: `{INTERNAL_MESSAGE}`. The coordinator's log has more."
    remedy = "Retry later; report it if it stays."
    yield ErrorRow(INTERNAL_REASON, 500, "INTERNAL", cause, remedy, INTERNAL_MESSAGE)


def _leaves(kind: type[CoordinatorError]) -> Iterator[type[CoordinatorError]]:
    if "reason" in vars(kind):
        yield kind
    for child in kind.__subclasses__():
        yield from _leaves(child)

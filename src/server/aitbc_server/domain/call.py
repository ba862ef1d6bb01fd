"""What is known of the call under way beside who makes it: for logs and traces."""

from __future__ import annotations

import re
from contextvars import ContextVar
from itertools import count
from secrets import token_hex
from typing import NamedTuple

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_PROCESS = token_hex(5)
_numbers = count(1)


class Call(NamedTuple):
    """One call."""

    # Names the call in logs, here and at whoever made it.
    request_id: str = ""
    # The caller's place in a trace, as W3C Trace Context writes it.
    traceparent: str | None = None


current_call: ContextVar[Call] = ContextVar("current_call", default=Call())  # noqa: B039 - a tuple


def request_id(given: str | None) -> str:
    """Returns the id that a caller gave, or a new one where it gave none that can be logged."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"req-{_PROCESS}-{next(_numbers)}"

"""What miners say of failures, as it is kept: codes are words, and sentences only show.

A code that is the coordinator's own says what only the coordinator knows: no miner says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.domain.job_errors import OWN_CODES

# Of what gave no code that is one.
MINER_FAILED = "MINER_FAILED"
# Characters kept.
_MOST_MESSAGE = 1024
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

# What a terminal obeys, or lets change the order of what is read: control characters but the end of
# a line and the tab, and those that turn the direction of writing.
_OBEYED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPED = {code: f"\\u{code:04x}" for code in _OBEYED}
_IN_LINES = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}


def _reasons(kind: type[CoordinatorError]) -> Iterator[str]:
    if "reason" in vars(kind):
        yield kind.reason
    for narrower in kind.__subclasses__():
        yield from _reasons(narrower)


# Of jobs, and of calls.
_RESERVED = OWN_CODES.union(_reasons(CoordinatorError))


def said_code(code: str) -> str:
    """Returns a reason of a failure: UPPER_SNAKE, and none of the coordinator's own."""
    is_taken = _CODE.fullmatch(code) and code not in _RESERVED
    return code if is_taken else MINER_FAILED


def said_message(message: str) -> str:
    """Returns what people are told of a failure."""
    return harmless(message[:_MOST_MESSAGE])


def harmless(text: str) -> str:
    """Returns a text of others as a terminal may show it, its control characters visible."""
    return text.translate(_IN_LINES)

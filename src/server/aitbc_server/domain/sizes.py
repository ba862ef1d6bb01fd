"""How much of an answer something takes, in every form in which it is told."""

from __future__ import annotations

# What clients of gRPC take of one message unless they are told otherwise, less what is around it.
PAGE_BYTES = 4 * 1024 * 1024 - 64 * 1024
# What a result may have with all that is beside its text: in memory it is many times that, as a
# message, as a row, and as JSON.
RESULT_BYTES = 4 * 1024 * 1024
# What a job takes beside its texts: its id, its times, its miner.
JOB_BYTES = 1024

# What JSON writes as two characters, and as six.
_TWO = b'"\\\b\f\n\r\t'
_SIX = bytes(number for number in range(0x20) if number not in _TWO)


def told_bytes(data: bytes) -> int:
    """Returns how long texts are at most, also as JSON. Data is a text, or a message of texts.

    Of a message, the tags and lengths are taken for characters that JSON writes as six, which makes
    up for the names of its fields.
    """
    two = len(data) - len(data.translate(None, _TWO))
    six = len(data) - len(data.translate(None, _SIX))
    return len(data) + two + 5 * six

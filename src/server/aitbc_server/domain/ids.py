"""Ids that sort by the time at which they were made.

Format: a prefix and a ULID (https://github.com/ulid/spec) in lower case: 48 bits of Unix
milliseconds and 80 random bits, 26 characters of Crockford's base 32. Within one millisecond, and
while the clock runs backwards, the random part counts up: ids of one process never go back.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: 13 look-ups an id instead of 26.
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_RANDOM_BITS = 80
_SEED_BYTES = _RANDOM_BITS // 8
# Leaves room above the first id of a millisecond for those that count up from it.
_SEED_MASK = (1 << _RANDOM_BITS - 2) - 1
# What differs between ids of one millisecond.
_TAIL_PAIRS = 2
_TAIL_BITS = 10 * _TAIL_PAIRS
_TAIL_MASK = (1 << _TAIL_BITS) - 1
_SALT_BYTES = 16
# Drawn at once: each draw is a call of the system.
_DRAWN_BYTES = 4096

JOB_PREFIX = "job-"
_JOB_ID = re.compile(r"job-[0-7][0-9a-hjkmnp-tv-z]{25}")
_LEASE_PREFIX = "lease-"
_LEASE_ID = re.compile(r"lease-([0-7][0-9a-hjkmnp-tv-z]{25})-([1-9][0-9]{0,8})")


class IdSource:
    """Makes ids. `randbytes(n)` gives n random bytes, as `secrets.token_bytes` does."""

    def __init__(self, randbytes: Callable[[int], bytes]) -> None:
        self._randbytes = randbytes
        self._drawn = b""
        self._used = 0
        self._last = 0
        # All of the last id but its last characters, and its text: most ids share it.
        self._head = -1
        self._prefix = ""

    def ulid(self, now_us: int) -> str:
        """Returns a ULID greater than every one returned before."""
        fresh = (now_us // 1000) << _RANDOM_BITS
        if fresh > self._last:
            self._last = fresh | int.from_bytes(self._random(_SEED_BYTES)) & _SEED_MASK
        else:
            self._last += 1
        head, tail = self._last >> _TAIL_BITS, self._last & _TAIL_MASK
        if head != self._head:
            self._head, self._prefix = head, _text(head, 13 - _TAIL_PAIRS)
        return self._prefix + _text(tail, _TAIL_PAIRS)

    def salt(self) -> bytes:
        """Returns 16 random bytes."""
        return self._random(_SALT_BYTES)

    def job_id(self, now_us: int) -> str:
        """Returns a new job's id."""
        return JOB_PREFIX + self.ulid(now_us)

    def _random(self, size: int) -> bytes:
        start, end = self._used, self._used + size
        if end > len(self._drawn):
            self._drawn, start, end = self._randbytes(_DRAWN_BYTES), 0, size
        self._used = end
        return self._drawn[start:end]


def _text(value: int, pairs: int) -> str:
    table = _PAIRS
    return "".join([table[value >> shift & 1023] for shift in range(10 * pairs - 10, -10, -10)])


def is_job_id(text: str) -> bool:
    """Says whether the text has the form of a job's id."""
    return _JOB_ID.fullmatch(text) is not None


def first_job_id(time_us: int) -> str:
    """Returns what comes before the ids of all jobs made at a time or later, and after the rest."""
    return JOB_PREFIX + _text(max(0, time_us) // 1000, 5)


def lease_id_of(job_id: str, attempt: int) -> str:
    """Returns the id of the lease under which the job's attempt runs.

    It fences: attempts of a job only count up, so that no two leases ever share an id, and the job
    is found from the lease without an index.
    """
    return f"{_LEASE_PREFIX}{job_id[len(JOB_PREFIX) :]}-{attempt}"


def job_of_lease(lease_id: str) -> str | None:
    """Returns the id of the job that the lease is on, or None when the text is no lease id."""
    match = _LEASE_ID.fullmatch(lease_id)
    return JOB_PREFIX + match[1] if match else None

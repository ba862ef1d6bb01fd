"""Keeps owners apart in the caches of engines."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import lru_cache

# Of an owner, and of what the request names beside.
CacheSaltOf = Callable[[str, str], str]

_REMEMBERED = 10_000
_HEX_DIGITS = 32


def cache_salts(secret: bytes) -> CacheSaltOf:
    """Returns what tells the salt of an owner, which nobody without the secret can guess.

    What a request names tells it from others of its owner: whatever it is, it is never another's.
    """

    @lru_cache(maxsize=_REMEMBERED)
    def salt_of(owner: str, named: str) -> str:
        whose = f"{owner}\0{named}" if named else owner
        return hmac.digest(secret, whose.encode(), "sha256").hex()[:_HEX_DIGITS]

    return salt_of

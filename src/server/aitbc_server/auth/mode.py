"""Whether callers need a key."""

from __future__ import annotations

from enum import StrEnum


class AuthMode(StrEnum):
    """Who may call."""

    #: Anybody, also without a key.
    OPEN = "open"
    #: Whoever has a key.
    REQUIRED = "required"

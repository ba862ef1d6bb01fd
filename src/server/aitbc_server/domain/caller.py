"""Who makes a call."""

from __future__ import annotations

from dataclasses import dataclass

# Owner of what is submitted without a key.
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The party a call is made for, after authentication."""

    # Whose jobs the call may see and make.
    owner: str = ANONYMOUS

"""What receipts cover of a job beside its two texts, in the bytes that are hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple


class Asked(NamedTuple):
    """What was asked of a model."""

    prompt: str
    # All else, as canonical JSON.
    beside: bytes


class Contents(NamedTuple):
    """Reads what is opaque to the store; each raises ValueError for what it cannot read."""

    # Of what was submitted.
    asked: Callable[[bytes], Asked]
    # Of what an answer has beside its text, and of its finish reason: as canonical JSON.
    answered: Callable[[bytes, str], bytes]


# Of jobs that are texts and nothing else.
TEXTS = Contents(
    asked=lambda spec: Asked(spec.decode(), b"{}"),
    answered=lambda details, finish_reason: details + finish_reason.encode(),
)


def salted_hash(salt: bytes, text: str) -> bytes:
    """Returns what a receipt says of a text: a bare hash of a short one could be guessed."""
    return hashlib.sha256(salt + text.encode()).digest()


def whole_hash(salt: bytes, text_hash: bytes, beside: bytes) -> bytes:
    """Returns what a receipt says of a text together with what is beside it."""
    return hashlib.sha256(salt + text_hash + beside).digest()

"""Signatures of messages, by the Standard Webhooks specification.

Format: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64encode
from collections.abc import Iterable

_SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with


def new_secret() -> bytes:
    """Returns a random key."""
    return secrets.token_bytes(_SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """Returns the key as its owner is shown it."""
    return _SECRET_PREFIX + b64encode(secret).decode()


def signed_headers(
    keys: Iterable[bytes], message_id: str, now_s: int, body: bytes
) -> list[tuple[bytes, bytes]]:
    """Returns the headers by which a receiver knows who sent a message, with a signature by key."""
    name, time = message_id.encode(), b"%d" % now_s
    signed = b".".join((name, time, body))
    signatures = (b"v1," + b64encode(hmac.digest(key, signed, "sha256")) for key in keys)
    return [
        (b"webhook-id", name),
        (b"webhook-timestamp", time),
        (b"webhook-signature", b" ".join(signatures)),
    ]

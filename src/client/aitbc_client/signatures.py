"""Ed25519 keys and signatures, in the forms in which ledgers and witnesses tell them."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode

ED25519 = b"\x01"
COSIGNATURE = b"\x04"
# A key as tools for signed notes take it: name, hash of the key, and the key behind its type.
_VERIFIER_KEY = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})")


def is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    """Says whether the signature of the message is the key's. Raises ValueError for no key."""
    # Here: who only shows receipts does not wait for the cryptography to load.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def key_hash_of(name: str, kind: bytes, key: bytes) -> bytes:
    """Returns the four bytes by which a line of a signed note names its key."""
    return hashlib.sha256(name.encode() + b"\n" + kind + key).digest()[:4]


def public_key(text: str) -> bytes:
    """Reads a ledger's public key, in Base64 or as a verifier key. Raises ValueError."""
    match = _VERIFIER_KEY.fullmatch(text)
    raw = b64decode(match[3] if match else text, validate=True)
    key = raw.removeprefix(ED25519) if len(raw) == 33 else raw
    if len(key) != 32:
        raise ValueError(f"{text!r} is not an Ed25519 public key")
    return key


def witness_key(text: str) -> tuple[str, bytes]:
    """Reads a witness's verifier key: its name and its public key. Raises ValueError."""
    match = _VERIFIER_KEY.fullmatch(text)
    raw = b64decode(match[3], validate=True) if match else b""
    if match is None or raw[:1] != COSIGNATURE:
        raise ValueError(f"{text!r} is not the verifier key of a witness: NAME+HASH+KEY")
    name, key = match[1], raw[1:]
    if key_hash_of(name, COSIGNATURE, key).hex() != match[2]:
        raise ValueError(f"{text!r} is not whole: its hash is not that of its key")
    return name, key

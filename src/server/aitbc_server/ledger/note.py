"""Signed notes (https://c2sp.org/signed-note): a text and, after an empty line, its signatures.

— <name of the key> <base64 of 4 bytes of the key's hash and 64 of the Ed25519 signature>

Lines of witnesses have 8 bytes of a time before the signature: see cosignatures.py.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from aitbc_server.ledger.keys import Signer, is_signed_by

_ED25519 = b"\x01"
_DASH = "\u2014 "
# Of a signature, and of one with a time: their lines' bytes with the key's hash.
_LENGTHS = {68, 76}
_MOST_LINES = 64
_VERIFIER_KEY = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})")


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was taken apart."""

    # What is signed, with the newline at its end.
    text: str
    # (name, hash of the key, signature) of each signature line.
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def is_signed_by(self, name: str, public_key: bytes) -> bool:
        """Says whether one of the signatures is this key's."""
        key_hash = key_hash_of(name, public_key)
        return any(
            signer == name
            and hash_ == key_hash
            and is_signed_by(public_key, signature, self.text.encode())
            for signer, hash_, signature in self.signatures
        )


def key_hash_of(name: str, public_key: bytes) -> bytes:
    """Returns the four bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def sign(text: str, name: str, signer: Signer) -> str:
    """Returns the text as a signed note."""
    signature = key_hash_of(name, signer.public_key) + signer.sign(text.encode())
    return f"{text}\n{signature_line(name, signature)}"


def signature_line(name: str, signature: bytes) -> str:
    """Returns a line of a signed note; the signature begins with its key's hash."""
    return f"{_DASH}{name} {b64encode(signature).decode()}\n"


def parse(note: str) -> Note:
    """Takes a note apart. Raises ValueError when it is none, or not exactly as `sign` writes it."""
    text, empty_line, lines = note.rpartition("\n\n")
    if not empty_line or not lines.endswith("\n"):
        raise ValueError("is not a signed note")
    signatures = []
    if lines.count("\n") > _MOST_LINES:
        raise ValueError(f"has more than {_MOST_LINES} signatures")
    for line in lines[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        signature = b64decode(encoded, validate=True)
        # Base64 has spare bits: only one of the texts of a signature is taken.
        is_exact = b64encode(signature).decode() == encoded
        if (
            not line.startswith(_DASH)
            or not space
            or len(signature) not in _LENGTHS
            or not is_exact
        ):
            raise ValueError("has a line that is no signature")
        signatures.append((name, signature[:4], signature[4:]))
    return Note(text + "\n", tuple(signatures))


def verifier_key(name: str, public_key: bytes) -> str:
    """Returns a key as tools for signed notes take it."""
    encoded = b64encode(_ED25519 + public_key).decode()
    return f"{name}+{key_hash_of(name, public_key).hex()}+{encoded}"


def public_key_in(text: str) -> bytes:
    """Reads a public key, in Base64 or as a verifier key. Raises ValueError."""
    match = _VERIFIER_KEY.fullmatch(text)
    raw = b64decode(match[3] if match else text, validate=True)
    key = raw.removeprefix(_ED25519) if match else raw
    if len(key) != 32 or (match and key_hash_of(match[1], key).hex() != match[2]):
        raise ValueError(f"{text!r} is not an Ed25519 public key, in Base64 or as a verifier key")
    return key

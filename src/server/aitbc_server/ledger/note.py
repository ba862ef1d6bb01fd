"""Signed notes (https://c2sp.org/signed-note): a text and, after an empty line, its signatures.

— <name of the key> <base64 of 4 bytes of the key's hash and 64 of the Ed25519 signature>
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from dataclasses import dataclass

from aitbc_server.ledger.keys import Signer, is_signed_by

_ED25519 = b"\x01"
_DASH = "\u2014 "


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
    return f"{text}\n{_DASH}{name} {b64encode(signature).decode()}\n"


def parse(note: str) -> Note:
    """Takes a note apart. Raises ValueError when it is none, or not exactly as `sign` writes it."""
    text, empty_line, lines = note.rpartition("\n\n")
    if not empty_line or not lines.endswith("\n"):
        raise ValueError("is not a signed note")
    signatures = []
    for line in lines[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        signature = b64decode(encoded, validate=True)
        # Base64 has spare bits: only one of the texts of a signature is taken.
        is_exact = b64encode(signature).decode() == encoded
        if not line.startswith(_DASH) or not space or len(signature) != 68 or not is_exact:
            raise ValueError("has a line that is no signature")
        signatures.append((name, signature[:4], signature[4:]))
    return Note(text + "\n", tuple(signatures))


def verifier_key(name: str, public_key: bytes) -> str:
    """Returns a key as tools for signed notes take it."""
    encoded = b64encode(_ED25519 + public_key).decode()
    return f"{name}+{key_hash_of(name, public_key).hex()}+{encoded}"

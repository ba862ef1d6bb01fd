"""Cosignatures of checkpoints by witnesses: https://c2sp.org/tlog-cosignature, version 1.

A witness signs that, at a time, the checkpoint was consistent with all that it had cosigned before.
What it signs, and the line that it adds to the signed note:

    cosignature/v1
    time <seconds since the Unix epoch>
    <text of the checkpoint>

    — <name of the witness> <base64 of 4 bytes of its key's hash, 8 of the time, 64 of Ed25519>
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from typing import NamedTuple

from aitbc_server.ledger.keys import Signer, is_signed_by
from aitbc_server.ledger.note import Note, signature_line

_COSIGNATURE = b"\x04"
_TIME_BYTES = 8
_VERIFIER_KEY = re.compile(r"([!-*,-~]{1,128})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})")


class Witness(NamedTuple):
    """Who cosigns, and with which key."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> Witness:
        """Reads a verifier key: `NAME+HASH+KEY`. Raises ValueError."""
        match = _VERIFIER_KEY.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a witness's verifier key: NAME+HASH+KEY")
        raw = b64decode(match[3], validate=True)
        witness = cls(match[1], raw[1:])
        if raw[:1] != _COSIGNATURE or witness.key_hash.hex() != match[2]:
            raise ValueError(f"{text!r} is not the verifier key of a witness that cosigns")
        return witness

    @property
    def key_hash(self) -> bytes:
        """The four bytes by which a signature line names its key."""
        named = self.name.encode() + b"\n" + _COSIGNATURE + self.public_key
        return hashlib.sha256(named).digest()[:4]

    @property
    def verifier_key(self) -> str:
        """It, as tools for signed notes take it."""
        encoded = b64encode(_COSIGNATURE + self.public_key).decode()
        return f"{self.name}+{self.key_hash.hex()}+{encoded}"


def cosign(text: str, witness: Witness, signer: Signer, time_s: int) -> str:
    """Returns the line that cosigns a checkpoint's text."""
    signature = signer.sign(_message(text, time_s))
    stamp = time_s.to_bytes(_TIME_BYTES, "big")
    return signature_line(witness.name, witness.key_hash + stamp + signature)


def cosigned_at(note: Note, witness: Witness) -> int | None:
    """Returns when the witness cosigned the note, in seconds since 1970; None if it did not."""
    for name, key_hash, stamped in note.signatures:
        stamp, signature = stamped[:_TIME_BYTES], stamped[_TIME_BYTES:]
        time_s = int.from_bytes(stamp, "big")
        if (name, key_hash) == (witness.name, witness.key_hash) and is_signed_by(
            witness.public_key, signature, _message(note.text, time_s)
        ):
            return time_s
    return None


def line_of(note: Note, witness: Witness) -> str:
    """Returns the witness's line of a note. Raises ValueError when there is none."""
    for name, key_hash, stamped in note.signatures:
        if (name, key_hash) == (witness.name, witness.key_hash):
            return signature_line(name, key_hash + stamped)
    raise ValueError(f"has no cosignature by {witness.name}")


def _message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()

"""Checkpoints of a ledger: signed notes that say how large it is, and its Merkle root.

The formats: https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature, and for the proof
that one ledger goes on from another RFC 9162, section 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Sequence

from aitbc_client.signatures import COSIGNATURE, ED25519, is_signed, key_hash_of

_DASH = "\u2014"
_TIME_BYTES = 8


class Checkpoint:
    """One checkpoint, taken apart."""

    def __init__(self, note: str) -> None:
        """Raises ValueError when the text is no checkpoint of a ledger of this kind."""
        text, empty_line, lines = note.rpartition("\n\n")
        if not empty_line:
            raise ValueError("is not a signed note")
        self.note = note
        # What is signed.
        self.text = f"{text}\n"
        origin, size, root, height, *_ = text.split("\n")
        self.origin = origin
        self.tree_size = int(size)
        self.root = b64decode(root, validate=True)
        self.height = int(height.removeprefix("height "))
        self._signatures = [_signature(line) for line in lines.splitlines()]

    def signer(self, keys: Iterable[bytes]) -> int | None:
        """Returns which of the ledger's keys signed it, the first being 0; None when none did."""
        for number, key in enumerate(keys):
            named = self.origin, key_hash_of(self.origin, ED25519, key)
            for name, key_hash, signature in self._signatures:
                if (name, key_hash) == named and is_signed(key, signature, self.text.encode()):
                    return number
        return None

    def is_cosigned_by(self, name: str, key: bytes) -> bool:
        """Says whether a witness cosigned it."""
        for signer, key_hash, stamped in self._signatures:
            time_s = int.from_bytes(stamped[:_TIME_BYTES], "big")
            message = f"cosignature/v1\ntime {time_s}\n{self.text}".encode()
            if (signer, key_hash) == (name, key_hash_of(name, COSIGNATURE, key)) and is_signed(
                key, stamped[_TIME_BYTES:], message
            ):
                return True
        return False

    def goes_on_from(self, older: Checkpoint, path: Sequence[bytes]) -> bool:
        """Says whether a consistency proof shows that its ledger begins with an older one's."""
        if older.origin != self.origin or not 0 < older.tree_size <= self.tree_size:
            return False
        if older.tree_size == self.tree_size:
            return not path and older.root == self.root
        return _is_consistent(older, self, path)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, name, encoded = line.split(" ")
    if dash != _DASH:
        raise ValueError("has a line that is no signature")
    signature = b64decode(encoded, validate=True)
    return name, signature[:4], signature[4:]


def _is_consistent(older: Checkpoint, newer: Checkpoint, path: Sequence[bytes]) -> bool:
    nodes = list(path)
    if older.tree_size & (older.tree_size - 1) == 0:
        nodes.insert(0, older.root)
    if not nodes:
        return False
    at, last = older.tree_size - 1, newer.tree_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = _node(node, old), _node(node, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = _node(new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and old == older.root and new == newer.root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()

"""The coordinator's signing keys: Ed25519, in files that only their owner can read.

    DIR/ledger-keys/0001.pem, 0002.pem, ...

The last one signs. Older ones are not needed to verify: their public halves are in the database,
each new one endorsed by the one before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aitbc_server.files import write_private

DIRECTORY = "ledger-keys"
_ENDORSEMENT = b"aitbc-ledger-key/v1\n"


class Signer:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Returns the signature, 64 bytes: the same at every call."""
        return self._key.sign(message)


class LedgerKeyMissingError(OSError):
    """The key that signed the ledger so far is not there."""


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """A public key of the ledger."""

    public_key: bytes
    # Signature of the key before over this one; None for the first.
    endorsement: bytes | None
    created_us: int


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Says whether the signature of the message is the key's."""
    try:
        _public(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def endorsed(public_key: bytes) -> bytes:
    """Returns what a key signs to name its successor."""
    return _ENDORSEMENT + public_key


def load_signers(data: Path) -> list[Signer]:
    """Returns the keys in their files, the oldest first. Raises OSError."""
    return [_load(file) for file in _files(data)]


def count_keys(data: Path) -> int:
    """Returns how many keys there are files of."""
    return len(_files(data))


def create_key(data: Path) -> Signer:
    """Makes the next key, which signs from now on. Raises OSError."""
    files = _files(data)
    number = int(files[-1].stem) + 1 if files else 1
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_key_files(data, {f"{number:04}.pem": text})
    return Signer(key)


def read_key_files(data: Path) -> dict[str, bytes]:
    """Returns the texts of the key files by their names. Raises OSError."""
    return {file.name: file.read_bytes() for file in _files(data)}


def write_key_files(data: Path, files: Mapping[str, bytes]) -> None:
    """Writes key files that only their owner can read. Raises OSError."""
    directory = data / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in files.items():
        write_private(directory / name, text)
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _files(data: Path) -> list[Path]:
    return sorted((data / DIRECTORY).glob("[0-9][0-9][0-9][0-9].pem"))


def _load(file: Path) -> Signer:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except ValueError as error:
        raise OSError(f"{file} holds no private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OSError(f"{file} holds a key that is not Ed25519")
    return Signer(key)


# Miners' keys come from callers: bounded.
@lru_cache(maxsize=4096)
def _public(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)

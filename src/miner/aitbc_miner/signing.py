"""The miner's own key, and its signature over what it says it did.

What it signs is described byte by byte in docs/reference/formats.md: a statement for each result
(job, lease, hash of the salted result, tokens), as canonical JSON, and one signature over the
Merkle root of the statements of a message.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1.work_pb2 import Completion
from aitbc_miner.errors import Misconfigured

_PURPOSE = b"aitbc-statements/v1\n"
_SALT_BYTES = 16


class Signer:
    """Signs the results of one miner."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        miner_id: str,
        randbytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._key = key
        self._miner_id = miner_id
        self._randbytes = randbytes
        self.public_key = key.public_key().public_bytes_raw()

    def sign(self, results: Iterable[tuple[str, str, Completion]]) -> bytes:
        """Gives each (job, lease, result) its salt, and returns the signature of all."""
        leaves = [
            hashlib.sha256(b"\0" + self._statement(job_id, lease_id, completion)).digest()
            for job_id, lease_id, completion in results
        ]
        return self._key.sign(_PURPOSE + _root(leaves))

    def _statement(self, job_id: str, lease_id: str, completion: Completion) -> bytes:
        completion.result_salt = self._randbytes(_SALT_BYTES)
        salted = completion.result_salt + completion.result.encode()
        fields: dict[str, str | int] = {
            "miner_id": self._miner_id,
            "job_id": job_id,
            "lease_id": lease_id,
            "result_hash": hashlib.sha256(salted).hexdigest(),
        }
        usage = completion.usage
        if usage.HasField("prompt_tokens"):
            fields["prompt_tokens"] = usage.prompt_tokens
        if usage.HasField("completion_tokens"):
            fields["completion_tokens"] = usage.completion_tokens
        # The bytes of RFC 8785, for names in ASCII, strings and integers.
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def load_signer(key_file: Path | None, miner_id: str) -> Signer:
    """Returns the signer with the key in a file, which is made at the first start.

    Raises Misconfigured.
    """
    file = key_file or default_key_file(miner_id)
    try:
        text = file.read_bytes() if file.exists() else _make(file)
        key = serialization.load_pem_private_key(text, password=None)
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"{file}: {error}: name a file for the miner's key, which it makes itself, with"
            " --key-file or AITBC_KEY_FILE"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(f"{file}: holds a key that is not Ed25519")
    return Signer(key, miner_id)


def default_key_file(miner_id: str) -> Path:
    """Returns where a miner keeps its key: in the user's directory for state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "aitbc-miner" / f"{miner_id}.pem"


def _make(file: Path) -> bytes:
    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whole or not at all, and only for its owner.
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    part.rename(file)
    return text


def _root(hashes: list[bytes]) -> bytes:
    """Returns the Merkle root of RFC 9162, section 2.1.1."""
    while len(hashes) > 1:
        pairs = [hashes[at : at + 2] for at in range(0, len(hashes), 2)]
        hashes = [
            hashlib.sha256(b"\1" + pair[0] + pair[1]).digest() if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return hashes[0]

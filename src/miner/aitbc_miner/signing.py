"""The miner's own key, and its signature over what it says it did.

What it signs is described byte by byte in docs/reference/formats.md: a statement for each result
(job, lease, salted hashes of the text and of the whole answer, tokens), as canonical JSON, and one
signature over the Merkle root of the statements of a message.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from struct import pack
from typing import Any

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1.jobs_pb2 import TaskOutput
from aitbc.v1.work_pb2 import Completion
from aitbc_miner.errors import Misconfigured

_PURPOSE = b"aitbc-statements/v1\n"
_PROOF = b"aitbc-miner-proof/v1\n"
_ENDORSEMENT = b"aitbc-miner-key/v1\n"
_SALT_BYTES = 16
# Newest version of statements.
_VERSION = 2


class Signer:
    """Signs the results of one miner."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        miner_id: str,
        randbytes: Callable[[int], bytes] = os.urandom,
        *,
        previous: Ed25519PrivateKey | None = None,
    ) -> None:
        """`previous`: the key that the miner had before, which endorses this one."""
        self._key = key
        self._miner_id = miner_id
        self._randbytes = randbytes
        # Of the statements: what the coordinator takes, which says so when a session begins.
        self.version = 1
        self.public_key = key.public_key().public_bytes_raw()
        # Of the previous key, over this one; empty without.
        self.endorsement = previous.sign(_ENDORSEMENT + self.public_key) if previous else b""

    def prove(self, nonce: str) -> bytes:
        """Returns the proof of the key that the coordinator asks for with a nonce."""
        return self._key.sign(_PROOF + f"{nonce}\n{self._miner_id}".encode())

    def agree(self, newest: int) -> None:
        """Takes the newest version of statements that both sides know."""
        self.version = max(1, min(newest, _VERSION))

    def sign(self, results: Iterable[tuple[str, str, Completion]]) -> bytes:
        """Gives each (job, lease, result) its salt, and returns the signature of all."""
        leaves = [
            hashlib.sha256(b"\0" + self._statement(job_id, lease_id, completion)).digest()
            for job_id, lease_id, completion in results
        ]
        return self._key.sign(_PURPOSE + _root(leaves))

    def _statement(self, job_id: str, lease_id: str, completion: Completion) -> bytes:
        completion.result_salt = self._randbytes(_SALT_BYTES)
        salt = completion.result_salt
        result_hash = hashlib.sha256(salt + completion.result.encode())
        fields: dict[str, str | int] = {
            "miner_id": self._miner_id,
            "job_id": job_id,
            "lease_id": lease_id,
            "result_hash": result_hash.hexdigest(),
        }
        if self.version == _VERSION:
            whole = hashlib.sha256(salt + result_hash.digest() + _beside_text(completion))
            fields |= {"version": _VERSION, "answer_hash": whole.hexdigest()}
        usage = completion.usage
        if usage.HasField("prompt_tokens"):
            fields["prompt_tokens"] = usage.prompt_tokens
        if usage.HasField("completion_tokens"):
            fields["completion_tokens"] = usage.completion_tokens
        return _canonical(fields)


def _beside_text(completion: Completion) -> bytes:
    """Returns what an answer has beside its text. What it does not have is left out."""
    answered: dict[str, Any] = {
        "finish_reason": completion.finish_reason,
        "reasoning": completion.reasoning,
        "tool_calls": [
            {field.name: value for field, value in call.ListFields()}
            for call in completion.tool_calls
        ],
        "logprobs": len(completion.logprobs),
        "token_ids": len(completion.token_ids),
        "outputs": [_output(output) for output in completion.outputs],
        "stop_string": completion.stop_string,
    }
    if completion.HasField("stop_token_id"):
        answered["stop_token_id"] = str(completion.stop_token_id)
    return _canonical({name: value for name, value in answered.items() if value})


def _output(output: TaskOutput) -> dict[str, Any]:
    """Returns what a task made of one input: its numbers as texts, by their bits."""
    made: dict[str, Any] = {
        "vector": pack(f">{len(output.vector)}f", *output.vector).hex(),
        "score": pack(">d", output.score).hex() if output.HasField("score") else "",
        "token_ids": [str(token) for token in output.token_ids],
        "tokens": list(output.tokens),
        "text": output.text,
    }
    return {name: value for name, value in made.items() if value}


def _canonical(fields: Mapping[str, Any]) -> bytes:
    # The bytes of RFC 8785, for names in ASCII, strings, lists and integers.
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def load_signer(
    key_file: Path | None, miner_id: str, previous_key_file: Path | None = None
) -> Signer:
    """Returns the signer with the key in a file, which is made at the first start.

    `previous_key_file`: holds the key that the miner had before. Raises Misconfigured.
    """
    file = key_file or default_key_file(miner_id)
    if not file.exists():
        try:
            _make(file)
        except OSError as error:
            raise _unusable(file, error) from error
    previous = _load(previous_key_file) if previous_key_file else None
    return Signer(_load(file), miner_id, previous=previous)


def _load(file: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise _unusable(file, error) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(f"{file}: holds a key that is not Ed25519")
    return key


def _unusable(file: Path, error: Exception) -> Misconfigured:
    return Misconfigured(
        f"{file}: {error}: name a file for the miner's key, which it makes itself, with"
        " --key-file or AITBC_KEY_FILE"
    )


def default_key_file(miner_id: str) -> Path:
    """Returns where a miner keeps its key: in the user's directory for state."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise Misconfigured(
            f"{error} Name a file for the miner's key with --key-file or AITBC_KEY_FILE"
        ) from error
    return Path(state) / "aitbc-miner" / f"{miner_id}.pem"


def _make(file: Path) -> None:
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


def _root(hashes: list[bytes]) -> bytes:
    """Returns the Merkle root of RFC 9162, section 2.1.1."""
    while len(hashes) > 1:
        pairs = [hashes[at : at + 2] for at in range(0, len(hashes), 2)]
        hashes = [
            hashlib.sha256(b"\1" + pair[0] + pair[1]).digest() if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return hashes[0]

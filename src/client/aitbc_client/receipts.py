"""Receipts, and how they are verified here, without asking anybody.

The formats are described byte by byte in docs/reference/formats.md: canonical JSON by RFC 8785,
Merkle paths by RFC 9162, checkpoints as signed notes (https://c2sp.org/tlog-checkpoint).
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aitbc_client.errors import ReceiptInvalid

# Fields that are signed; whether each receipt has them.
_SIGNED = {
    "receipt_id": True,
    "job_id": True,
    "client": True,
    "miner_id": True,
    "miner": True,
    "model": True,
    "units": True,
    "unit_type": True,
    "prompt_tokens": False,
    "completion_tokens": False,
    "price": True,
    "currency": True,
    "prompt_hash": True,
    "result_hash": True,
    "started_at": True,
    "completed_at": True,
    "attempt": True,
    "coordinator": True,
    "nonce": True,
    "miner_signature": False,
}
_RECEIPTS, _STATEMENTS = b"aitbc-receipts/v1\n", b"aitbc-statements/v1\n"
_ED25519 = b"\x01"
# A key as tools for signed notes take it: name, hash of the key, and the key behind its type.
_VERIFIER_KEY = re.compile(r".+\+[0-9a-f]{8}\+([A-Za-z0-9+/]{44})")


class Outcome(StrEnum):
    """How a check went."""

    PASSED = "passed"
    FAILED = "failed"
    #: It could not be made: what it needs is not there.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a receipt."""

    name: str
    outcome: Outcome
    # Sentence for people.
    detail: str


class Receipt:
    """Who did which work for whom, and what it cost, as a document that can be kept."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """`document`: as the REST API answers it."""
        self.document = document

    @property
    def receipt_id(self) -> str:
        """Its id."""
        return str(self.document["receipt_id"])

    @property
    def job_id(self) -> str:
        """The job that it is for."""
        return str(self.document["job_id"])

    @property
    def is_sealed(self) -> bool:
        """Whether it brings the proof that it is in the ledger."""
        return "proof" in self.document

    def check(
        self,
        keys: Collection[str],
        *,
        prompt: str | Sequence[Mapping[str, Any]] | None = None,
        result: str | None = None,
    ) -> list[Check]:
        """Returns every check that can be made here.

        `keys` are the ledger's public keys that are trusted, in Base64 or as verifier keys. The
        texts are compared where they are given and the receipt has their salts. Raises ValueError
        when a key is none.
        """
        return _Checker(self.document, [_key(key) for key in keys]).checks(prompt, result)

    def verify(
        self,
        keys: Collection[str],
        *,
        prompt: str | Sequence[Mapping[str, Any]] | None = None,
        result: str | None = None,
    ) -> None:
        """Raises ReceiptInvalid, naming the first check that failed."""
        for check in self.check(keys, prompt=prompt, result=result):
            if check.outcome is Outcome.FAILED:
                raise ReceiptInvalid(f"{check.name}: {check.detail}", error_code="RECEIPT_INVALID")


class _Checker:
    """Makes the checks of one document, which may be anything."""

    def __init__(self, document: Mapping[str, Any], keys: Sequence[bytes]) -> None:
        self._document = document
        self._keys = keys
        self._body = {name: document[name] for name in _SIGNED if name in document}
        self._leaf = _leaf_hash(_canonical(self._body))

    def checks(
        self, prompt: str | Sequence[Mapping[str, Any]] | None, result: str | None
    ) -> list[Check]:
        text = prompt if prompt is None or isinstance(prompt, str) else _canonical(prompt).decode()
        has_proof, has_miner = "proof" in self._document, "miner_signature" in self._document
        return [
            _made("form", self._form),
            _made("coordinator_key", self._coordinator_key),
            _made("coordinator_signature", self._coordinator_signature),
            _made("miner_signature", self._miner_signature if has_miner else None),
            _made("inclusion", self._inclusion if has_proof else None),
            _made("checkpoint", self._checkpoint if has_proof else None),
            self._text("prompt", text),
            self._text("result", result),
        ]

    def _form(self) -> str | None:
        missing = [
            name for name, is_needed in _SIGNED.items() if is_needed and name not in self._body
        ]
        return f"{missing[0]} is missing" if missing else None

    def _coordinator_key(self) -> str | None:
        key = b64decode(self._document["signature"]["public_key"], validate=True)
        return None if key in self._keys else "the key that signed it is not trusted"

    def _coordinator_signature(self) -> str | None:
        return _problem_of(self._document["signature"], _RECEIPTS, self._leaf)

    def _miner_signature(self) -> str | None:
        names = ("miner_id", "job_id", "result_hash", "prompt_tokens", "completion_tokens")
        statement = {name: self._body[name] for name in names if name in self._body}
        job = self._body["job_id"].removeprefix("job-")
        statement["lease_id"] = f"lease-{job}-{self._body['attempt']}"
        leaf = _leaf_hash(_canonical(statement))
        return _problem_of(self._document["miner_signature"], _STATEMENTS, leaf)

    def _inclusion(self) -> str | None:
        proof = self._document["proof"]
        path = [bytes.fromhex(hash_) for hash_ in proof.get("path", ())]
        root = _root(self._leaf, proof.get("leaf_index", 0), proof["tree_size"], path)
        is_included = root is not None and root.hex() == proof["root_hash"]
        return None if is_included else "the path does not lead to the root"

    def _checkpoint(self) -> str | None:
        proof = self._document["proof"]
        text, _, lines = str(proof["checkpoint"]).rpartition("\n\n")
        origin, size, root, *_ = f"{text}\n".split("\n")
        if origin != self._body["coordinator"]:
            return "the checkpoint is of another ledger"
        if (int(size), b64decode(root, validate=True).hex()) != (
            proof["tree_size"],
            proof["root_hash"],
        ):
            return "the checkpoint is of another tree"
        for line in lines.splitlines():
            dash, name, encoded = line.split(" ")
            signature = b64decode(encoded, validate=True)
            for key in self._keys:
                key_hash = hashlib.sha256(origin.encode() + b"\n" + _ED25519 + key).digest()[:4]
                is_named = (dash, name, signature[:4]) == ("\u2014", origin, key_hash)
                if is_named and _is_signed(key, signature[4:], f"{text}\n".encode()):
                    return None
        return "no trusted key signed the checkpoint"

    def _text(self, name: str, text: str | None) -> Check:
        salt = self._document.get("disclosure", {}).get(f"{name}_salt")
        if text is None or salt is None:
            return Check(name, Outcome.SKIPPED, "the text or its salt is not there")

        def compare() -> str | None:
            hash_ = hashlib.sha256(bytes.fromhex(salt) + text.encode()).hexdigest()
            return None if hash_ == self._body[f"{name}_hash"] else "it has another hash"

        return _made(name, compare)


def _made(name: str, check: Callable[[], str | None] | None) -> Check:
    if check is None:
        return Check(name, Outcome.SKIPPED, "the receipt has none")
    try:
        problem = check()
    except (KeyError, TypeError, ValueError, AttributeError):
        # The document comes from anywhere, and may have anything in any place.
        problem = "a part of it is missing, or no such thing"
    return (
        Check(name, Outcome.FAILED, problem) if problem else Check(name, Outcome.PASSED, "it holds")
    )


def _problem_of(signed: Mapping[str, Any], purpose: bytes, leaf: bytes) -> str | None:
    """Says what is wrong with a signature over a batch of things, of which one has this leaf."""
    path = [bytes.fromhex(hash_) for hash_ in signed.get("path", ())]
    root = _root(leaf, signed.get("index", 0), signed["size"], path)
    if root is None:
        return "the path does not fit"
    key = b64decode(signed["public_key"], validate=True)
    signature = b64decode(signed["signature"], validate=True)
    return None if _is_signed(key, signature, purpose + root) else "it does not hold"


def _is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    # Here: who only shows receipts does not wait for the cryptography to load.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Returns the root that a path leads to: RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        return None
    last, root = size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            root = hashlib.sha256(b"\1" + sibling + root).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            root = hashlib.sha256(b"\1" + root + sibling).digest()
        index, last = index >> 1, last >> 1
    return root if last == 0 else None


def _leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def _canonical(value: Any) -> bytes:
    # RFC 8785 for ASCII names, strings and integers: all that is signed here.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _key(text: str) -> bytes:
    """Reads a public key, in Base64 or as a verifier key. Raises ValueError."""
    match = _VERIFIER_KEY.fullmatch(text)
    raw = b64decode(match[1] if match else text, validate=True)
    key = raw.removeprefix(_ED25519) if len(raw) == 33 else raw
    if len(key) != 32:
        raise ValueError(f"{text!r} is not an Ed25519 public key")
    return key

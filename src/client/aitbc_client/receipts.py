"""Receipts, and how they are verified here, without asking anybody.

The formats are described byte by byte in docs/reference/formats.md: canonical JSON by RFC 8785,
Merkle paths by RFC 9162, checkpoints as signed notes (https://c2sp.org/tlog-checkpoint).
"""

from __future__ import annotations

import hashlib
import struct
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aitbc_client.contents import answered_beside, asked_beside, canonical
from aitbc_client.errors import ReceiptInvalid
from aitbc_client.jobs_told import PROMPTS, problem_of_job, uncovered_of
from aitbc_client.signatures import ED25519, is_signed, key_hash_of, public_key

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
    "version": False,
    "request_hash": False,
    "answer_hash": False,
    "resumed": False,
}
_VERSION = 2
_OF_VERSION_2 = ("request_hash", "answer_hash")
_RECEIPTS, _STATEMENTS = b"aitbc-receipts/v1\n", b"aitbc-statements/v1\n"


class Outcome(StrEnum):
    """How a check went."""

    PASSED = "passed"
    FAILED = "failed"
    #: It was not asked for, or is not one of such a receipt.
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
        job: Mapping[str, Any] | None = None,
        signature_only: bool = False,
    ) -> list[Check]:
        """Returns how each check went. What is asked for and cannot be checked has failed.

        `keys` are the ledger's public keys that are trusted, in Base64 or as verifier keys. The
        texts, and all that the `job` says, as the REST API shows it, are compared where they are
        given: the receipt must have their salts. It must have the proof that it is in the ledger,
        too, unless `signature_only`. Raises ValueError when a key is none.
        """
        checker = _Checker(self.document, [public_key(key) for key in keys])
        return checker.checks(prompt, result, job, needs_proof=not signature_only)

    def verify(
        self,
        keys: Collection[str],
        *,
        prompt: str | Sequence[Mapping[str, Any]] | None = None,
        result: str | None = None,
        job: Mapping[str, Any] | None = None,
        signature_only: bool = False,
    ) -> None:
        """Raises ReceiptInvalid, naming the first check that failed."""
        for check in self.check(
            keys, prompt=prompt, result=result, job=job, signature_only=signature_only
        ):
            if check.outcome is Outcome.FAILED:
                raise ReceiptInvalid(f"{check.name}: {check.detail}", error_code="RECEIPT_INVALID")


_NO_SALT = "the receipt lacks the salt in `disclosure` that it is checked with"
_NO_PROOF = "it has no proof that it is in the ledger: get it again once its block is sealed"


class _Checker:
    """Makes the checks of one document, which may be anything."""

    def __init__(self, document: Mapping[str, Any], keys: Sequence[bytes]) -> None:
        self._document = document
        self._keys = keys
        self._body = {name: document[name] for name in _SIGNED if name in document}
        self._leaf = _leaf_hash(canonical(self._body))

    def checks(
        self,
        prompt: str | Sequence[Mapping[str, Any]] | None,
        result: str | None,
        job: Mapping[str, Any] | None,
        *,
        needs_proof: bool,
    ) -> list[Check]:
        if job is not None:
            prompt = prompt or next((job[name] for name in PROMPTS if job.get(name)), "")
            if result is None:
                # A job that is given is to be checked, also where it shows none.
                result = "" if job.get("result") is None else job["result"]
        is_proven = needs_proof or "proof" in self._document
        has_miner = "miner_signature" in self._document
        return [
            _made("form", self._form),
            _made("coordinator_key", self._coordinator_key),
            _made("coordinator_signature", self._coordinator_signature),
            _made("miner_signature", self._miner_signature if has_miner else None),
            _made("inclusion", self._inclusion if is_proven else None),
            _made("checkpoint", self._checkpoint if is_proven else None),
            self._job(job),
            self._text("prompt", prompt),
            self._text("result", result),
            self._whole("request", "prompt", asked_beside, job),
            self._whole("answer", "result", answered_beside, job),
        ]

    def _form(self) -> str | None:
        missing = [
            name for name, is_needed in _SIGNED.items() if is_needed and name not in self._body
        ]
        if missing:
            return f"{missing[0]} is missing"
        version = self._body.get("version")
        has = [name for name in _OF_VERSION_2 if name in self._body]
        if version is None and "resumed" in self._body:
            return "resumed is not of its version"
        if version not in (None, _VERSION):
            return f"it is of version {version}, which is not known here"
        if len(has) != (len(_OF_VERSION_2) if version else 0):
            return "its hashes are not those of its version"
        signature = self._body.get("miner_signature", {})
        if signature.get("version") not in (None, version):
            return "its miner's signature is of another version"
        if self._document.get("leaf_hash", self._leaf.hex()) != self._leaf.hex():
            return "its leaf_hash is not that of its contents"
        has_miner = "miner_signature" in self._body
        if self._document.get("is_miner_statement_verified", has_miner) is not has_miner:
            return "it has no signature that its miner's statement was verified by"
        return None

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
        if "version" in self._document["miner_signature"]:
            statement |= {"version": _VERSION, "answer_hash": self._body["answer_hash"]}
        leaf = _leaf_hash(canonical(statement))
        return _problem_of(self._document["miner_signature"], _STATEMENTS, leaf)

    def _inclusion(self) -> str | None:
        proof = self._document.get("proof")
        if proof is None:
            return _NO_PROOF
        index = proof.get("leaf_index", 0)
        if not _says(self._document, status="sealed", leaf_index=index):
            return "it says that it is elsewhere than its proof"
        if not _says(proof, receipt_id=self._body["receipt_id"], leaf_hash=self._leaf.hex()):
            return "the proof is of another receipt"
        path = [bytes.fromhex(hash_) for hash_ in proof.get("path", ())]
        root = _root(self._leaf, index, proof["tree_size"], path)
        is_included = root is not None and root.hex() == proof["root_hash"]
        return None if is_included else "the path does not lead to the root"

    def _checkpoint(self) -> str | None:
        proof = self._document.get("proof")
        if proof is None:
            return _NO_PROOF
        text, _, lines = str(proof["checkpoint"]).rpartition("\n\n")
        origin, size, root, height, *_ = f"{text}\n".split("\n")
        if origin != self._body["coordinator"]:
            return "the checkpoint is of another ledger"
        if (int(size), b64decode(root, validate=True).hex()) != (
            proof["tree_size"],
            proof["root_hash"],
        ):
            return "the checkpoint is of another tree"
        told = {"block_height": int(height.removeprefix("height "))}
        hash_ = hashlib.sha256(f"{text}\n".encode()).hexdigest()
        if not _says(self._document, **told) or not _says(proof, **told, block_hash=hash_):
            return "the checkpoint is of another block"
        for line in lines.splitlines():
            dash, name, encoded = line.split(" ")
            signature = b64decode(encoded, validate=True)
            for key in self._keys:
                key_hash = key_hash_of(origin, ED25519, key)
                is_named = (dash, name, signature[:4]) == ("\u2014", origin, key_hash)
                if is_named and is_signed(key, signature[4:], f"{text}\n".encode()):
                    return None
        return "no trusted key signed the checkpoint"

    def _job(self, job: Mapping[str, Any] | None) -> Check:
        if job is None:
            return Check("job", Outcome.SKIPPED, "no job was given")
        made = _made("job", lambda: problem_of_job(self._body, job))
        uncovered = made.outcome is Outcome.PASSED and uncovered_of(job)
        if not uncovered:
            return made
        return Check("job", made.outcome, f"it holds; not covered: {', '.join(uncovered)}")

    def _text(self, name: str, said: str | Sequence[Mapping[str, Any]] | None) -> Check:
        if said is None:
            return Check(name, Outcome.SKIPPED, "no text was given")

        def compare() -> str | None:
            salt = self._salt(name)
            if salt is None:
                return _NO_SALT
            text = said.encode() if isinstance(said, str) else canonical(said)
            hash_ = hashlib.sha256(salt + text).hexdigest()
            return None if hash_ == self._body[f"{name}_hash"] else "it has another hash"

        return _made(name, compare)

    def _whole(
        self,
        name: str,
        text: str,
        beside: Callable[[Mapping[str, Any]], bytes],
        job: Mapping[str, Any] | None,
    ) -> Check:
        if job is None:
            return Check(name, Outcome.SKIPPED, "no job was given")
        if "version" not in self._body:
            return Check(name, Outcome.SKIPPED, "receipts of version 1 cover the two texts alone")

        def compare() -> str | None:
            salt = self._salt(text)
            if salt is None:
                return _NO_SALT
            salted = salt + bytes.fromhex(self._body[f"{text}_hash"])
            hash_ = hashlib.sha256(salted + beside(job)).hexdigest()
            return None if hash_ == self._body[f"{name}_hash"] else "it has another hash"

        return _made(name, compare)

    def _salt(self, text: str) -> bytes | None:
        salt = self._document.get("disclosure", {}).get(f"{text}_salt")
        return None if salt is None else bytes.fromhex(salt)


def _says(told: Mapping[str, Any], **expected: Any) -> bool:
    """Says whether what is told, if it is, is what it should be."""
    # As JSON: to Python, true is 1.
    return all(
        canonical(told.get(name, value)) == canonical(value) for name, value in expected.items()
    )


def _made(name: str, check: Callable[[], str | None] | None) -> Check:
    if check is None:
        return Check(name, Outcome.SKIPPED, "the receipt has none")
    try:
        problem = check()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error):
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
    return None if is_signed(key, signature, purpose + root) else "it does not hold"


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

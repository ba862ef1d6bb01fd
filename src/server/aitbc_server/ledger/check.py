"""Checks one receipt as somebody holds it, with what it brings and what this ledger has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aitbc_server.domain.addresses import is_address
from aitbc_server.domain.receipts import BatchSignature, ReceiptRecord, receipt_id_of
from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import parse_block
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.contents import salted_hash, whole_hash
from aitbc_server.ledger.merkle import leaf_hash, root_by_path
from aitbc_server.ledger.receipts import SIGNED_FIELDS, problem_of_version, statement_in
from aitbc_server.ledger.signing import RECEIPTS, STATEMENTS, covers

_NO_SALT = "the receipt lacks the salt in `disclosure` that it is checked with"


class Outcome(StrEnum):
    """How a check went."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An inclusion proof that came with a receipt."""

    leaf_index: int
    tree_size: int
    root: bytes
    path: tuple[bytes, ...]
    checkpoint: str
    # What it says beside what proves, where it says so.
    receipt_id: str = ""
    leaf_hash: str = ""
    block_height: int | None = None
    block_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Where a receipt says that it is in the ledger, where it says so."""

    is_sealed: bool | None = None
    leaf_index: int | None = None
    leaf_hash: str = ""
    block_height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed to be a receipt."""

    # The fields that are signed, as in canonical JSON.
    body: Mapping[str, Any]
    signature: BatchSignature | None
    miner_signature: BatchSignature | None
    proof: Proof | None
    told: Told = Told()
    # Whether it says that its miner's statement was verified, where it says so.
    is_statement_verified: bool | None = None
    # Whether a job was given, and what that tells otherwise than the receipt.
    has_job: bool = False
    problem_of_job: str | None = None
    # (salt, text) of prompt and result, where the text was given. An empty salt is none.
    prompt: tuple[bytes, str] | None = None
    result: tuple[bytes, str] | None = None
    # (salt, canonical JSON) of what was asked and answered beside them, where a job was given.
    asked: tuple[bytes, bytes] | None = None
    answered: tuple[bytes, bytes] | None = None

    @property
    def leaf(self) -> bytes:
        """Hash of its leaf, if it is in a ledger."""
        return leaf_hash(canonical(self.body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What this ledger has."""

    origin: str
    keys: Collection[bytes]
    # The receipt with the leaf.
    record: ReceiptRecord | None


def check_receipt(claim: Claim, known: Known) -> list[Check]:
    """Returns every check that can be made, in order."""
    return list(_checks(claim, known))


def is_valid(checks: Collection[Check]) -> bool:
    """Says whether nothing failed and what every receipt must pass was checked."""
    passed = {check.name for check in checks if check.outcome is Outcome.PASSED}
    has_failed = any(check.outcome is Outcome.FAILED for check in checks)
    return not has_failed and passed >= {"form", "coordinator_key", "coordinator_signature"}


def _checks(claim: Claim, known: Known) -> Iterator[Check]:
    leaf = claim.leaf
    of_form = _problem_of_form(claim.body, known.origin)
    problem = of_form or _problem_of_told(claim, leaf)
    yield _check("form", problem is None, problem or "it has every field that is signed")
    signature = claim.signature
    if signature is None:
        yield Check("coordinator_key", Outcome.FAILED, "it has no signature")
        yield Check("coordinator_signature", Outcome.FAILED, "it has no signature")
    else:
        is_ours = signature.public_key in known.keys
        detail = f"the key is {'one' if is_ours else 'none'} of this ledger's"
        yield _check("coordinator_key", is_ours, detail)
        yield _signature_check("coordinator_signature", is_signed=covers(signature, RECEIPTS, leaf))
    if claim.miner_signature is None:
        yield Check("miner_signature", Outcome.SKIPPED, "the miner signed nothing")
    else:
        yield _signature_check(
            "miner_signature",
            is_signed=of_form is None
            and covers(claim.miner_signature, STATEMENTS, leaf_hash(statement_in({**claim.body}))),
        )
    yield from _proof_checks(claim, leaf, known)
    elsewhere = _problem_of_place(claim.told, known.record)
    yield _check("ledger", elsewhere is None, elsewhere or "this ledger holds it")
    if claim.has_job:
        yield _check(
            "job", claim.problem_of_job is None, claim.problem_of_job or "it is of this receipt"
        )
    else:
        yield Check("job", Outcome.SKIPPED, "no job was given")
    yield _text_check("prompt", claim.prompt, claim.body.get("prompt_hash"))
    yield _text_check("result", claim.result, claim.body.get("result_hash"))
    yield _whole_check("request", claim.asked, claim.body, "prompt_hash")
    yield _whole_check("answer", claim.answered, claim.body, "result_hash")


def _problem_of_form(body: Mapping[str, Any], origin: str) -> str | None:
    for name, is_required in SIGNED_FIELDS.items():
        if is_required and name not in body:
            return f"{name} is missing"
    if body["receipt_id"] != receipt_id_of(body["job_id"]):
        return "receipt_id is not that of job_id"
    for name in ("client", "miner"):
        if not is_address(body[name]):
            return f"{name} is no address"
    if body["coordinator"] != origin:
        return f"coordinator is not {origin}"
    return problem_of_version(body)


def _problem_of_told(claim: Claim, leaf: bytes) -> str | None:
    if claim.told.leaf_hash not in ("", leaf.hex()):
        return "its leaf_hash is not that of its contents"
    if claim.is_statement_verified not in (None, claim.miner_signature is not None):
        return "it has no signature that its miner's statement was verified by"
    return None


def _problem_of_place(told: Told, record: ReceiptRecord | None) -> str | None:
    if record is None:
        return "this ledger holds no such receipt"
    if told.leaf_index not in (None, record.leaf_index):
        return f"this ledger holds it as entry {record.leaf_index}"
    height = record.block_height
    # One that somebody holds may be from before its block was sealed.
    if told.block_height not in (None, height) or (told.is_sealed and height is None):
        return "this ledger does not hold it in that block"
    if told.is_sealed is False and told.block_height is not None:
        return "it says that it is in a block, and that it is in none"
    return None


def _proof_checks(claim: Claim, leaf: bytes, known: Known) -> Iterator[Check]:
    proof = claim.proof
    if proof is None:
        for name in ("inclusion", "checkpoint"):
            yield Check(name, Outcome.SKIPPED, "it came without a proof")
        return
    root = root_by_path(leaf, proof.leaf_index, proof.tree_size, proof.path)
    problem = None
    if root is None or root != proof.root:
        problem = "the path does not lead to the root"
    elif proof.leaf_hash not in ("", leaf.hex()) or proof.receipt_id not in (
        "",
        claim.body.get("receipt_id"),
    ):
        problem = "the proof is of another receipt"
    elif claim.told.leaf_index not in (None, proof.leaf_index):
        problem = "the receipt says that it is elsewhere than its proof"
    yield _check("inclusion", problem is None, problem or "the path leads to the root")
    problem = _problem_of_checkpoint(proof, known)
    yield _check("checkpoint", problem is None, problem or "a key of this ledger signed the root")


def _problem_of_checkpoint(proof: Proof, known: Known) -> str | None:
    try:
        signed = note.parse(proof.checkpoint)
        block = parse_block(signed.text)
    except ValueError as error:
        return f"the checkpoint {error}"
    if block.origin != known.origin:
        return "the checkpoint is of another ledger"
    if (block.tree_size, block.root) != (proof.tree_size, proof.root):
        return "the checkpoint is of another tree"
    if proof.block_height not in (None, block.height) or proof.block_hash not in (
        "",
        block.hash.hex(),
    ):
        return "the checkpoint is of another block"
    if not any(signed.is_signed_by(block.origin, key) for key in known.keys):
        return "no key of this ledger signed the checkpoint"
    return None


def _signature_check(name: str, *, is_signed: bool) -> Check:
    return _check(name, is_signed, "it holds" if is_signed else "it does not hold")


def _text_check(name: str, given: tuple[bytes, str] | None, expected: str | None) -> Check:
    if given is None:
        return Check(name, Outcome.SKIPPED, f"no {name} was given")
    if not given[0]:
        return Check(name, Outcome.FAILED, _NO_SALT)
    is_same = salted_hash(*given).hex() == expected
    return _check(name, is_same, "it has the hash" if is_same else "it has another hash")


def _whole_check(
    name: str, given: tuple[bytes, bytes] | None, body: Mapping[str, Any], text: str
) -> Check:
    if given is None:
        return Check(name, Outcome.SKIPPED, "no job was given")
    if "version" not in body:
        return Check(name, Outcome.SKIPPED, "receipts of version 1 cover the two texts alone")
    salt, beside = given
    if not salt:
        return Check(name, Outcome.FAILED, _NO_SALT)
    try:
        text_hash = bytes.fromhex(body[text])
    except (KeyError, ValueError):
        return Check(name, Outcome.FAILED, f"{text} is no hash")
    is_same = whole_hash(salt, text_hash, beside).hex() == body.get(f"{name}_hash")
    return _check(name, is_same, "it has the hash" if is_same else "it has another hash")


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name, Outcome.PASSED if passed else Outcome.FAILED, detail)

"""Checks one receipt as somebody holds it, with what it brings and what this ledger has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aitbc_server.domain.addresses import is_address
from aitbc_server.domain.receipts import BatchSignature, receipt_id_of
from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import parse_block
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.merkle import leaf_hash, root_by_path
from aitbc_server.ledger.receipts import SIGNED_FIELDS, salted_hash, statement_in
from aitbc_server.ledger.signing import RECEIPTS, STATEMENTS, covers


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed to be a receipt."""

    # The fields that are signed, as in canonical JSON.
    body: Mapping[str, Any]
    signature: BatchSignature | None
    miner_signature: BatchSignature | None
    proof: Proof | None
    # (salt, text) of prompt and result, where both were given.
    prompt: tuple[bytes, str] | None = None
    result: tuple[bytes, str] | None = None

    @property
    def leaf(self) -> bytes:
        """Hash of its leaf, if it is in a ledger."""
        return leaf_hash(canonical(self.body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What this ledger has."""

    origin: str
    keys: Collection[bytes]
    # Whether the leaf is in it.
    has_leaf: bool


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
    problem = _problem_of_form(claim.body, known.origin)
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
            is_signed=problem is None
            and covers(claim.miner_signature, STATEMENTS, leaf_hash(statement_in({**claim.body}))),
        )
    yield from _proof_checks(claim.proof, leaf, known)
    yield _check(
        "ledger",
        known.has_leaf,
        "this ledger holds it" if known.has_leaf else "this ledger holds no such receipt",
    )
    yield _text_check("prompt", claim.prompt, claim.body.get("prompt_hash"))
    yield _text_check("result", claim.result, claim.body.get("result_hash"))


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
    return None


def _proof_checks(proof: Proof | None, leaf: bytes, known: Known) -> Iterator[Check]:
    if proof is None:
        for name in ("inclusion", "checkpoint"):
            yield Check(name, Outcome.SKIPPED, "it came without a proof")
        return
    root = root_by_path(leaf, proof.leaf_index, proof.tree_size, proof.path)
    is_included = root is not None and root == proof.root
    yield _check(
        "inclusion",
        is_included,
        "the path leads to the root" if is_included else "the path does not lead to the root",
    )
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
    if not any(signed.is_signed_by(block.origin, key) for key in known.keys):
        return "no key of this ledger signed the checkpoint"
    return None


def _signature_check(name: str, *, is_signed: bool) -> Check:
    return _check(name, is_signed, "it holds" if is_signed else "it does not hold")


def _text_check(name: str, given: tuple[bytes, str] | None, expected: str | None) -> Check:
    if given is None:
        return Check(name, Outcome.SKIPPED, f"the {name} or its salt was not given")
    is_same = salted_hash(*given).hex() == expected
    return _check(name, is_same, "it has the hash" if is_same else "it has another hash")


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name, Outcome.PASSED if passed else Outcome.FAILED, detail)

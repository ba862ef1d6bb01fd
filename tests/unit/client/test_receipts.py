"""The client's own verification agrees with the ledger, and finds every change."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from aitbc_client import Outcome, Receipt, ReceiptInvalid
from aitbc_server.domain.ids import lease_id_of
from aitbc_server.domain.prices import PriceTable
from aitbc_server.domain.receipts import Work
from aitbc_server.ledger.blocks import NO_BLOCK, Block
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.keys import Signer
from aitbc_server.ledger.merkle import leaf_hash, levels_of, path_in, root_of
from aitbc_server.ledger.note import verifier_key
from aitbc_server.ledger.receipts import (
    Receipts,
    salted_hash,
    sign_entries,
    signature_fields,
    statement,
)
from aitbc_server.ledger.signing import STATEMENTS, for_each, sign_root
from tests.factories import START_US, new_job

_ORIGIN = "aitbc/test"
_COORDINATOR = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
_MINER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
_KEY = verifier_key(_ORIGIN, _COORDINATOR.public_key)
_SALT = bytes(range(16))
_PROMPT, _RESULT = "what? 🙂", "naïve \x00 answer"
# What does not bear on whether a receipt holds.
_TOLD = {"status", "leaf_index", "leaf_hash", "block_height"}
_TOLD_OF_PROOFS = {"receipt_id", "leaf_hash", "block_height", "block_hash"}


def _documents(count: int) -> list[dict[str, Any]]:
    """Returns receipts of one commit, sealed in one block, as the REST API answers them."""
    works = [_work(n) for n in range(count)]
    maker = Receipts(_ORIGIN, PriceTable(), random.Random(3).randbytes)
    entries = maker.make(works)
    leaves = [entry.leaf_hash for entry in entries]
    signatures = for_each(leaves, _COORDINATOR.public_key, sign_entries(entries, _COORDINATOR))
    levels = levels_of(leaves)
    block = Block(
        origin=_ORIGIN,
        tree_size=count,
        root=levels[-1][0],
        height=0,
        previous=NO_BLOCK,
        time_us=START_US,
    )
    checkpoint = block.signed(_COORDINATOR)
    return [
        {
            **json.loads(entry.body),
            "signature": signature_fields(signature),
            "status": "sealed",
            "proof": {
                "leaf_index": at,
                "tree_size": count,
                "root_hash": block.root.hex(),
                "path": [hash_.hex() for hash_ in path_in(levels, at)],
                "checkpoint": checkpoint,
            },
            "disclosure": {"prompt_salt": _SALT.hex(), "result_salt": _SALT.hex()},
        }
        for at, (entry, signature) in enumerate(zip(entries, signatures, strict=True))
    ]


def _work(number: int) -> Work:
    job = new_job()
    result_hash = salted_hash(_SALT, _RESULT)
    said = statement(
        miner_id="m",
        job_id=job.job_id,
        lease_id=lease_id_of(job.job_id, 2),
        result_hash=result_hash.hex(),
        prompt_tokens=3,
        completion_tokens=None,
    )
    leaf = leaf_hash(said)
    signature = sign_root(STATEMENTS, root_of([leaf]), _MINER)
    return Work(
        job_id=job.job_id,
        client=job.owner,
        model=f"model-é-{number}",
        miner_id="m",
        attempt=2,
        started_us=START_US,
        completed_us=START_US + 5,
        prompt_tokens=3,
        completion_tokens=None,
        characters=len(_RESULT),
        prompt_hash=salted_hash(_SALT, _PROMPT),
        result_hash=result_hash,
        miner_signature=for_each([leaf], _MINER.public_key, signature)[0],
    )


_SEALED = _documents(7)


@pytest.mark.parametrize("document", _SEALED)
def test_a_receipt_of_the_ledger_holds(document: dict[str, Any]) -> None:
    made = Receipt(document).check([_KEY], prompt=_PROMPT, result=_RESULT)
    assert {check.name: check.outcome for check in made} == dict.fromkeys(
        (
            "form",
            "coordinator_key",
            "coordinator_signature",
            "miner_signature",
            "inclusion",
            "checkpoint",
            "prompt",
            "result",
        ),
        Outcome.PASSED,
    )


def test_what_is_not_there_is_skipped() -> None:
    document = {
        name: value for name, value in _SEALED[0].items() if name not in {"proof", "disclosure"}
    }
    made = Receipt(document).check([_KEY], prompt=_PROMPT)
    skipped = {check.name for check in made if check.outcome is Outcome.SKIPPED}
    assert skipped == {"inclusion", "checkpoint", "prompt", "result"}
    Receipt(document).verify([_KEY])


def test_another_key_is_not_trusted() -> None:
    other = verifier_key(_ORIGIN, _MINER.public_key)
    made = Receipt(_SEALED[0]).check([other])
    failed = {check.name for check in made if check.outcome is Outcome.FAILED}
    assert failed == {"coordinator_key", "checkpoint"}
    with pytest.raises(ReceiptInvalid) as invalid:
        Receipt(_SEALED[0]).verify([other])
    assert invalid.value.error_code == "RECEIPT_INVALID"
    with pytest.raises(ValueError, match="not an Ed25519 public key"):
        Receipt(_SEALED[0]).check(["AAAA"])


def test_another_text_is_found() -> None:
    made = Receipt(_SEALED[0]).check([_KEY], prompt="what?", result=_RESULT + " ")
    failed = {check.name for check in made if check.outcome is Outcome.FAILED}
    assert failed == {"prompt", "result"}


def test_a_conversation_has_the_hash_of_its_canonical_form() -> None:
    turns = [{"role": "user", "content": "hé \n"}]
    hash_ = salted_hash(_SALT, canonical(turns).decode()).hex()
    made = Receipt({**_SEALED[0], "prompt_hash": hash_}).check([_KEY], prompt=turns)
    assert {check.name: check.outcome for check in made}["prompt"] is Outcome.PASSED


@given(st.data())
def test_any_change_of_a_receipt_is_found(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(_SEALED)))
    path, holder, key = data.draw(st.sampled_from(list(_places(document))))
    value = holder[key]
    changed = data.draw(_other_than(value))
    holder[key] = changed
    made = Receipt(document).check([_KEY], prompt=_PROMPT, result=_RESULT)
    assert any(check.outcome is Outcome.FAILED for check in made), (path, value, changed)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
)
def test_anything_in_any_place_is_a_failed_check(value: Any) -> None:
    for path, _, _ in _places(_SEALED[1]):
        document = copy.deepcopy(_SEALED[1])
        holder: Any = document
        for step in path[:-1]:
            holder = holder[step]
        # A salt that is null is one that is not there.
        if holder[path[-1]] != value and (path[0] != "disclosure" or value is not None):
            holder[path[-1]] = value
            with pytest.raises(ReceiptInvalid):
                Receipt(document).verify([_KEY], prompt=_PROMPT, result=_RESULT)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Yields (path, holder, key) of every single value that bears on whether a receipt holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if (not path and key in _TOLD) or (path == ("proof",) and key in _TOLD_OF_PROOFS):
            continue
        if isinstance(item, dict | list):
            yield from _places(item, (*path, key))
        else:
            yield (*path, key), value, key


def _other_than(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, int):
        return st.integers(0, 2**40).filter(lambda other: other != value)
    return st.integers(0, len(value) - 1).flatmap(
        lambda at: (
            st.sampled_from("0123456789abcdefXYZ+/=\n ")
            .filter(lambda other: other != value[at])
            .map(lambda other: value[:at] + other + value[at + 1 :])
        )
    )

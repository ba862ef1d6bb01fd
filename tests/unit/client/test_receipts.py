"""The client's own verification agrees with the ledger, and finds every change."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import Completion
from aitbc_client import Outcome, Receipt, ReceiptInvalid
from aitbc_client.contents import answered_beside as clients_answered
from aitbc_client.contents import asked_beside as clients_asked
from aitbc_client.documents import document_of
from aitbc_miner.signing import _beside_text
from aitbc_server.api.contents import answered_beside, asked_beside
from aitbc_server.domain.ids import lease_id_of
from aitbc_server.domain.prices import PriceTable
from aitbc_server.domain.receipts import Work
from aitbc_server.ledger.blocks import NO_BLOCK, Block
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.contents import salted_hash, whole_hash
from aitbc_server.ledger.keys import Signer
from aitbc_server.ledger.merkle import leaf_hash, levels_of, path_in, root_of
from aitbc_server.ledger.note import verifier_key
from aitbc_server.ledger.receipts import (
    Receipts,
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
_CALL = jobs_pb2.ToolCall(id="call-1", name="pay", arguments='{"to":"bob","usd":1}')
_WHOLE = jobs_pb2.Job(
    prompt=_PROMPT,
    model="m",
    params=jobs_pb2.GenerationParams(temperature=0.7, max_tokens=5, stop=["é", "\n"]),
    tools=[jobs_pb2.Tool(name="pay", parameters='{"type": "object"}', strict=True)],
    tool_choice="required",
    result=_RESULT,
    finish_reason="tool_calls",
    tool_calls=[_CALL],
)
_JOB = document_of(_WHOLE)


def _job_of(receipt: dict[str, Any]) -> dict[str, Any]:
    """Returns the job of a receipt, as the REST API answers it."""
    told = ("receipt_id", "job_id", "miner_id", "model", "attempt", "started_at", "completed_at")
    usage = {"prompt_tokens": receipt["prompt_tokens"]}
    return {**_JOB, **{n: receipt[n] for n in told}, "status": "completed", "usage": usage}


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
            "leaf_index": at,
            "leaf_hash": entry.leaf_hash.hex(),
            "block_height": 0,
            "proof": {
                "receipt_id": json.loads(entry.body)["receipt_id"],
                "leaf_hash": entry.leaf_hash.hex(),
                "block_height": 0,
                "block_hash": block.hash.hex(),
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
    prompt_hash = salted_hash(_SALT, _PROMPT)
    answer_hash = whole_hash(_SALT, result_hash, answered_beside(_WHOLE, "tool_calls"))
    # Of miners of before, too.
    version = 2 - number % 2
    said = statement(
        miner_id="m",
        job_id=job.job_id,
        lease_id=lease_id_of(job.job_id, 2),
        result_hash=result_hash.hex(),
        prompt_tokens=3,
        completion_tokens=None,
        answer_hash=answer_hash.hex() if version == 2 else None,
    )
    leaf = leaf_hash(said)
    signature = sign_root(STATEMENTS, root_of([leaf]), _MINER)
    return Work(
        job_id=job.job_id,
        client=job.owner,
        model=_WHOLE.model,
        miner_id="m",
        attempt=2,
        started_us=START_US,
        completed_us=START_US + 5,
        prompt_tokens=3,
        completion_tokens=None,
        characters=len(_RESULT),
        prompt_hash=prompt_hash,
        result_hash=result_hash,
        request_hash=whole_hash(_SALT, prompt_hash, asked_beside(_WHOLE)),
        answer_hash=answer_hash,
        miner_signature=replace(for_each([leaf], _MINER.public_key, signature)[0], version=version),
    )


_SEALED = _documents(7)


@pytest.mark.parametrize("document", _SEALED)
def test_a_receipt_of_the_ledger_holds(document: dict[str, Any]) -> None:
    made = Receipt(document).check([_KEY], job=_job_of(document))
    assert {check.name: check.outcome for check in made} == dict.fromkeys(
        (
            "form",
            "coordinator_key",
            "coordinator_signature",
            "miner_signature",
            "inclusion",
            "checkpoint",
            "job",
            "prompt",
            "result",
            "request",
            "answer",
        ),
        Outcome.PASSED,
    )


def _failed(document: dict[str, Any], **asked: Any) -> set[str]:
    made = Receipt(document).check([_KEY], **asked)
    return {check.name for check in made if check.outcome is Outcome.FAILED}


def _without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def test_what_was_asked_for_and_cannot_be_checked_has_failed() -> None:
    whole = _SEALED[0]
    job = _job_of(whole)
    unopened = _without(whole, "disclosure")
    assert _failed(unopened) == set()
    assert _failed(unopened, prompt=_PROMPT) == {"prompt"}
    assert _failed(unopened, result=_RESULT) == {"result"}
    opened = {"prompt", "result", "request", "answer"}
    assert _failed(unopened, job=job) == opened
    assert _failed({**whole, "disclosure": {}}, job=job) == opened
    half = {**whole, "disclosure": {"prompt_salt": _SALT.hex()}}
    assert _failed(half, job=job) == {"result", "answer"}
    assert _failed(whole, job=_without(job, "result")) == {"result"}
    assert _failed(whole, job={**job, "result": None}) == {"result"}
    assert _failed(whole, job={**job, "result": 7}) == {"result"}
    assert _failed(whole, job={**job, "result": "\ud800"}) == {"result"}
    assert _failed(whole, job=_without(job, "prompt")) == {"prompt"}
    assert _failed(whole, job={**job, "prompt": None}) == {"prompt"}
    assert _failed(whole, job={}) == {"job", *opened}
    unproven = _without(whole, "proof")
    assert _failed(unproven, job=job) == {"inclusion", "checkpoint"}
    assert _failed(unproven, job=job, signature_only=True) == set()
    with pytest.raises(ReceiptInvalid, match="it has no proof that it is in the ledger"):
        Receipt(unproven).verify([_KEY])
    Receipt(unproven).verify([_KEY], signature_only=True)
    # A proof that is there holds all the same.
    bent = {**whole, "proof": {**whole["proof"], "root_hash": "00" * 32}}
    assert _failed(bent, signature_only=True) == {"inclusion", "checkpoint"}


@pytest.mark.parametrize(
    "change",
    [
        {"job_id": "job-other"},
        {"receipt_id": "rcpt-other"},
        {"miner_id": "another"},
        {"attempt": 1},
        {"attempt": True},
        {"started_at": "2026-01-24T15:00:01Z"},
        {"completed_at": None},
        {"status": "failed"},
        {"usage": {"prompt_tokens": 4}},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 9999}},
        {"usage": {}},
        {"usage": 7},
        {"inputs": [{"text": "another"}]},
        {"messages": [{"role": "user", "content": "another"}]},
    ],
    ids=str,
)
def test_a_job_that_tells_otherwise_than_the_receipt_is_found(change: dict[str, Any]) -> None:
    assert "job" in _failed(_SEALED[0], job={**_job_of(_SEALED[0]), **change})
    for name in change:
        assert _failed(_SEALED[0], job=_without(_job_of(_SEALED[0]), name)) or name in (
            *("inputs", "messages"),
        )


def test_what_a_receipt_says_nothing_of_is_named() -> None:
    job = _job_of(_SEALED[0])
    job |= {"prompt_details": {"text": "x"}, "metadata": {"a": "b"}}
    job["usage"] |= {"cached_tokens": 3}
    made = {check.name: check for check in Receipt(_SEALED[0]).check([_KEY], job=job)}
    assert made["job"].outcome is Outcome.PASSED
    assert made["job"].detail == (
        "it holds; not covered: prompt_details, metadata, usage.cached_tokens"
    )


def test_a_statement_that_nobody_verified_is_not_said_to_be() -> None:
    assert _failed({**_SEALED[0], "is_miner_statement_verified": True}) == set()
    assert _failed({**_SEALED[0], "is_miner_statement_verified": False}) == {"form"}


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


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"finish_reason": "stop"}, {"answer"}),
        ({"tool_calls": []}, {"answer"}),
        ({"tool_calls": [{**_JOB["tool_calls"][0], "arguments": "{}"}]}, {"answer"}),
        ({"reasoning": "none"}, {"answer"}),
        ({"logprobs": [{"token": "a", "logprob": -1.0}]}, {"answer"}),
        ({"result": ""}, {"result"}),
        ({"model": "n"}, {"job", "request"}),
        ({"params": {**_JOB["params"], "temperature": 0.8}}, {"request"}),
        ({"params": {**_JOB["params"], "max_tokens": 6}}, {"request"}),
        ({"tools": []}, {"request"}),
        ({"tool_choice": "none"}, {"request"}),
        ({"raw_prompt": True}, {"request"}),
        ({"parallel_tool_calls": False}, {"request"}),
        ({"response_format": {"type": "json_object"}}, {"request"}),
        ({"priority": 5, "timeout_seconds": 9, "metadata": {"a": "b"}}, set()),
    ],
)
def test_a_receipt_covers_all_that_was_asked_and_answered(
    change: dict[str, Any], failed: set[str]
) -> None:
    made = Receipt(_SEALED[0]).check([_KEY], job={**_job_of(_SEALED[0]), **change})
    assert {check.name for check in made if check.outcome is Outcome.FAILED} == failed


_ASKED = st.builds(
    jobs_pb2.Job,
    model=st.text(min_size=1, max_size=3),
    prompt=st.none() | st.text(max_size=3),
    messages=st.lists(st.just(jobs_pb2.ChatMessage(role="user", content="")), max_size=1),
    params=st.none()
    | st.builds(
        jobs_pb2.GenerationParams,
        max_tokens=st.none() | st.integers(0, 9),
        temperature=st.none() | st.floats(allow_nan=False),
        top_p=st.none() | st.sampled_from([1.0, 0.1, 1e-7, 1e22]),
        seed=st.none() | st.integers(-(2**63), 2**63 - 1),
        stop=st.lists(st.text(max_size=2), max_size=2),
        min_tokens=st.none() | st.integers(0, 2),
        ignore_eos=st.booleans(),
        stop_token_ids=st.lists(st.integers(0, 2**31 - 1), max_size=2),
        bad_words=st.lists(st.text(max_size=2), max_size=2),
        allowed_token_ids=st.lists(st.integers(0, 9), max_size=2),
        logit_bias=st.dictionaries(st.integers(0, 12), st.floats(-100, 100), max_size=3),
        skip_special_tokens=st.none() | st.booleans(),
        spaces_between_special_tokens=st.none() | st.booleans(),
        prompt_logprobs=st.none() | st.integers(0, 2),
        return_token_ids=st.booleans(),
        thinking_token_budget=st.none() | st.integers(0, 2),
        repetition_detection=st.none()
        | st.builds(jobs_pb2.RepetitionDetection, max_pattern_size=st.integers(0, 2)),
        extra_args=st.sampled_from(["", '{"a":1}']),
    ),
    task=st.integers(0, 5),
    prompt_token_ids=st.lists(st.integers(0, 9), max_size=2),
    prompt_options=st.none()
    | st.builds(
        jobs_pb2.PromptOptions,
        documents=st.sampled_from(["", "[]"]),
        add_generation_prompt=st.none() | st.booleans(),
        add_special_tokens=st.none() | st.booleans(),
        continue_final_message=st.booleans(),
        truncate_prompt_tokens=st.none() | st.integers(-1, 2),
        truncation_side=st.sampled_from(["", "right"]),
    ),
    dimensions=st.none() | st.integers(1, 3),
    use_activation=st.none() | st.booleans(),
    tools=st.lists(
        st.builds(jobs_pb2.Tool, name=st.just("f"), strict=st.booleans(), description=st.text()),
        max_size=2,
    ),
    tool_choice=st.sampled_from(["", "auto"]),
    parallel_tool_calls=st.none() | st.booleans(),
    raw_prompt=st.booleans(),
    response_format=st.none()
    | st.builds(
        jobs_pb2.ResponseFormat,
        type=st.integers(0, 7),
        json_schema=st.text(max_size=2),
        choices=st.lists(st.text(max_size=2), max_size=2),
    ),
    finish_reason=st.sampled_from(["", "stop"]),
    reasoning=st.text(max_size=2),
    tool_calls=st.lists(st.builds(jobs_pb2.ToolCall, id=st.text(), arguments=st.text())),
    logprobs=st.lists(st.just(jobs_pb2.TokenLogprob(bytes=b"\xff")), max_size=2),
    token_ids=st.lists(st.integers(0, 9), max_size=2),
    outputs=st.lists(
        st.builds(
            jobs_pb2.TaskOutput,
            vector=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3),
            score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
            token_ids=st.lists(st.integers(0, 9), max_size=2),
            tokens=st.lists(st.text(max_size=2), max_size=2),
            text=st.text(max_size=2),
        ),
        max_size=2,
    ),
    stop_string=st.text(max_size=2),
    stop_token_id=st.none() | st.integers(0, 2),
)


@given(_ASKED)
def test_the_client_writes_the_same_bytes_as_the_coordinator(job: jobs_pb2.Job) -> None:
    shown = document_of(job)
    asked, answered = asked_beside(job), answered_beside(job, job.finish_reason)
    assert clients_asked(shown) == asked == rfc8785.dumps(json.loads(asked))
    assert clients_answered(shown) == answered == rfc8785.dumps(json.loads(answered))
    # And so does the miner, which signs it.
    names = {field.name for field in Completion.DESCRIPTOR.fields}
    said = Completion(**{f.name: value for f, value in job.ListFields() if f.name in names})
    assert _beside_text(said) == answered


# Of a ledger of before: the first receipt that formats.md once had.
_FIRST = json.loads((Path(__file__).parent / "receipt_v1.json").read_text())


def test_a_receipt_of_version_1_still_holds() -> None:
    job = {**_job_of(_FIRST["receipt"]), "prompt": "x", "result": "Paris."}
    job["usage"] = {n: _FIRST["receipt"][n] for n in ("prompt_tokens", "completion_tokens")}
    made = Receipt(_FIRST["receipt"]).check([_FIRST["key"]], job=job, signature_only=True)
    passed = {check.name for check in made if check.outcome is Outcome.PASSED}
    assert passed == {
        *("form", "coordinator_key", "coordinator_signature", "miner_signature", "job", "result"),
    }
    assert [check.name for check in made if check.outcome is Outcome.FAILED] == ["prompt"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": 3},
        {"answer_hash": "00" * 32},
        {"request_hash": "00" * 32},
        {"miner_signature": {**_FIRST["receipt"]["miner_signature"], "version": 2}},
    ],
    ids=str,
)
def test_a_receipt_of_version_1_has_nothing_of_version_2(change: dict[str, Any]) -> None:
    made = Receipt({**_FIRST["receipt"], **change}).check([_FIRST["key"]])
    assert "form" in {check.name for check in made if check.outcome is Outcome.FAILED}


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
    made = Receipt(document).check([_KEY], job=_job_of(document))
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
        if holder[path[-1]] != value:
            holder[path[-1]] = value
            with pytest.raises(ReceiptInvalid):
                Receipt(document).verify([_KEY], prompt=_PROMPT, result=_RESULT)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Yields (path, holder, key) of every single value that bears on whether a receipt holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
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

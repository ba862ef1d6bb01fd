"""The example that docs/reference/formats.md works through: two receipts in one block."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1 import jobs_pb2
from aitbc_server.api.contents import answered_beside, asked_beside
from aitbc_server.domain.ids import lease_id_of
from aitbc_server.domain.prices import PriceTable, UnitType
from aitbc_server.domain.receipts import Work
from aitbc_server.ledger.blocks import NO_BLOCK, Block
from aitbc_server.ledger.contents import salted_hash, whole_hash
from aitbc_server.ledger.keys import Signer
from aitbc_server.ledger.merkle import GrowingTree, leaf_hash, root_of
from aitbc_server.ledger.note import key_hash_of, verifier_key
from aitbc_server.ledger.receipts import Entry, Receipts, sign_entries, statement
from aitbc_server.ledger.signing import STATEMENTS, for_each, sign_root

ORIGIN = "ledger.example"
SALT = bytes(range(16))
NONCE = bytes(range(16, 32))
COMPLETED_US = 1_769_266_805_000_000


@dataclass(frozen=True)
class Vectors:
    """Every value that the page shows."""

    coordinator: Signer
    miner: Signer
    # What is asked by both jobs beside the prompt, and answered by each beside its text.
    asked: bytes
    answered: list[bytes]
    statements: list[bytes]
    statement_root: bytes
    statement_signature: bytes
    entries: list[Entry]
    receipts_root: bytes
    receipts_signature: bytes
    block: Block
    checkpoint: str
    key_hash: bytes
    verifier_key: str


def vectors() -> Vectors:
    """Works the example out with the coordinator's own code."""
    coordinator, miner = _signer(1), _signer(2)
    jobs = ["job-01kfr3m2g0aaaaaaaaaaaaaaaa", "job-01kfr3m2g0bbbbbbbbbbbbbbbb"]
    results = ["Paris.", "R\u00f6ntgen"]
    asked = asked_beside(
        jobs_pb2.Job(
            model="llama3.2",
            params=jobs_pb2.GenerationParams(max_tokens=16, temperature=0.7),
            tools=[jobs_pb2.Tool(name="look_up", parameters='{"type":"object"}')],
            tool_choice="auto",
        )
    )
    call = jobs_pb2.ToolCall(id="call-1", name="look_up", arguments='{"of":"R\u00f6ntgen"}')
    answered = [
        answered_beside(jobs_pb2.Job(), "stop"),
        answered_beside(jobs_pb2.Job(tool_calls=[call]), "tool_calls"),
    ]
    hashes = [salted_hash(SALT, result) for result in results]
    prompt_hash = salted_hash(SALT, "What is the capital of France?")
    wholes = [whole_hash(SALT, *pair) for pair in zip(hashes, answered, strict=True)]
    statements = [
        statement(
            miner_id="miner-1",
            job_id=job_id,
            lease_id=lease_id_of(job_id, 1),
            result_hash=result_hash.hex(),
            prompt_tokens=12,
            completion_tokens=3,
            answer_hash=answer_hash.hex(),
        )
        for job_id, result_hash, answer_hash in zip(jobs, hashes, wholes, strict=True)
    ]
    leaves = [leaf_hash(data) for data in statements]
    statement_signature = sign_root(STATEMENTS, root_of(leaves), miner)
    signatures = [
        replace(signature, version=2)
        for signature in for_each(leaves, miner.public_key, statement_signature)
    ]
    works = [
        Work(
            job_id=job_id,
            client="ait1dusech8hp6enrfa6np7vh5wgu9peu4aus49vdg",
            model="llama3.2",
            miner_id="miner-1",
            attempt=1,
            started_us=COMPLETED_US - 3_999_500,
            completed_us=COMPLETED_US,
            prompt_tokens=12,
            completion_tokens=3,
            characters=len(result),
            prompt_hash=prompt_hash,
            result_hash=result_hash,
            request_hash=whole_hash(SALT, prompt_hash, asked),
            answer_hash=answer_hash,
            miner_signature=signature,
        )
        for job_id, result, result_hash, answer_hash, signature in zip(
            jobs, results, hashes, wholes, signatures, strict=True
        )
    ]
    prices = PriceTable("AITBC", {UnitType.TOKENS: 2 * 10**11})
    entries = Receipts(ORIGIN, prices, lambda size: NONCE * (size // 16)).make(works)
    tree = GrowingTree()
    tree.append([entry.leaf_hash for entry in entries])
    block = Block(
        origin=ORIGIN,
        tree_size=2,
        root=tree.root(),
        height=0,
        previous=NO_BLOCK,
        time_us=COMPLETED_US,
    )
    return Vectors(
        coordinator=coordinator,
        miner=miner,
        asked=asked,
        answered=answered,
        statements=statements,
        statement_root=root_of(leaves),
        statement_signature=statement_signature,
        entries=entries,
        receipts_root=root_of([entry.leaf_hash for entry in entries]),
        receipts_signature=sign_entries(entries, coordinator),
        block=block,
        checkpoint=block.signed(coordinator),
        key_hash=key_hash_of(ORIGIN, coordinator.public_key),
        verifier_key=verifier_key(ORIGIN, coordinator.public_key),
    )


def _signer(byte: int) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([byte] * 32)))

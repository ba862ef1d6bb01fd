"""Between the ledger and protobuf messages."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import orjson

from aitbc.v1 import explorer_pb2, jobs_pb2, receipts_pb2
from aitbc_server.api.contents import answered_beside, asked_beside
from aitbc_server.api.convert import prompt_text, timestamp
from aitbc_server.api.jobs_told import problem_of_job
from aitbc_server.domain.prices import UnitType
from aitbc_server.domain.receipts import BatchSignature, BlockRecord, ReceiptRecord
from aitbc_server.domain.times import micros_of, rfc3339
from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import Block, parse_block
from aitbc_server.ledger.check import Check, Claim, Outcome, Proof, Told
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.ledger.receipts import SIGNED_FIELDS, signature_fields

_UNITS = {unit: receipts_pb2.UnitType.Value(f"UNIT_TYPE_{unit.name}") for unit in UnitType}
_UNIT_NAMES = {number: unit.value for unit, number in _UNITS.items()}
_OUTCOMES = {
    outcome: receipts_pb2.CheckOutcome.Value(f"CHECK_OUTCOME_{outcome.name}") for outcome in Outcome
}
_TIMES = ("started_at", "completed_at")


def receipt_message(
    record: ReceiptRecord,
    *,
    signature: BatchSignature | None = None,
    proof: receipts_pb2.InclusionProof | None = None,
) -> receipts_pb2.Receipt:
    """Returns a receipt as everybody sees it."""
    body = orjson.loads(record.body)
    body["unit_type"] = _UNITS[UnitType(body["unit_type"])]
    for name in _TIMES:
        body[name] = timestamp(micros_of(body[name]))
    receipt = receipts_pb2.Receipt(
        **body,
        status=receipt_status(record),
        leaf_index=record.leaf_index,
        leaf_hash=record.leaf_hash.hex(),
        block_height=record.block_height,
        proof=proof,
    )
    if signature is not None:
        receipt.signature.CopyFrom(receipts_pb2.BatchSignature(**signature_fields(signature)))
    return receipt


def disclose(receipt: receipts_pb2.Receipt, record: ReceiptRecord) -> None:
    """Adds the salts that open the hashes."""
    if record.prompt_salt:
        receipt.disclosure.prompt_salt = record.prompt_salt.hex()
    if record.result_salt:
        receipt.disclosure.result_salt = record.result_salt.hex()


def add_statement(receipt: receipts_pb2.Receipt, record: ReceiptRecord) -> None:
    """Adds what the miner said of its work."""
    if record.statement:
        receipt.miner_statement.MergeFromString(record.statement)
        # Only a signature that was checked is in the receipt itself.
        receipt.is_miner_statement_verified = receipt.HasField("miner_signature")


def receipt_status(record: ReceiptRecord) -> receipts_pb2.ReceiptStatus.ValueType:
    """Returns whether its block is sealed."""
    if record.block_height is None:
        return receipts_pb2.RECEIPT_STATUS_PENDING
    return receipts_pb2.RECEIPT_STATUS_SEALED


def proof_message(
    record: ReceiptRecord, block: BlockRecord, path: list[bytes]
) -> receipts_pb2.InclusionProof:
    """Returns the proof that a block holds a receipt."""
    return receipts_pb2.InclusionProof(
        receipt_id=orjson.loads(record.body)["receipt_id"],
        leaf_index=record.leaf_index,
        leaf_hash=record.leaf_hash.hex(),
        tree_size=block.tree_size,
        root_hash=_parsed(block).root.hex(),
        path=[hash_.hex() for hash_ in path],
        block_height=block.height,
        block_hash=block.hash.hex(),
        checkpoint=block.note,
    )


def transaction_message(record: ReceiptRecord) -> explorer_pb2.Transaction:
    """Returns a receipt as the payment it is."""
    body = orjson.loads(record.body)
    return explorer_pb2.Transaction(
        hash=record.leaf_hash.hex(),
        type=explorer_pb2.TRANSACTION_TYPE_JOB_PAYMENT,
        to=body["miner"],
        amount=body["price"],
        currency=body["currency"],
        receipt_id=body["receipt_id"],
        time=timestamp(micros_of(body["completed_at"])),
        status=receipt_status(record),
        block_height=record.block_height,
        block_hash=record.block_hash.hex() if record.block_hash else "",
        **{"from": body["client"]},
    )


def block_message(
    record: BlockRecord, before: BlockRecord | None, keys: list[LedgerKey]
) -> explorer_pb2.Block:
    """Returns a block; `before` is the one before it."""
    block, signed = _parsed(record), note.parse(record.note)
    signer = next((k.public_key for k in keys if _names(signed, block.origin, k)), b"")
    return explorer_pb2.Block(
        height=record.height,
        hash=record.hash.hex(),
        previous_hash=block.previous.hex(),
        tree_size=record.tree_size,
        root_hash=block.root.hex(),
        time=timestamp(block.time_us),
        receipts=record.tree_size - (before.tree_size if before else 0),
        public_key=b64encode(signer).decode(),
        checkpoint=record.note,
    )


def key_message(key: LedgerKey, origin: str) -> explorer_pb2.LedgerKey:
    """Returns a key of the ledger of that name."""
    return explorer_pb2.LedgerKey(
        public_key=b64encode(key.public_key).decode(),
        verifier_key=note.verifier_key(origin, key.public_key),
        endorsement=b64encode(key.endorsement).decode() if key.endorsement else "",
        created_at=timestamp(key.created_us),
    )


def check_messages(checks: list[Check]) -> list[receipts_pb2.ReceiptCheck]:
    """Returns how checks went."""
    return [
        receipts_pb2.ReceiptCheck(
            name=check.name, outcome=_OUTCOMES[check.outcome], detail=check.detail
        )
        for check in checks
    ]


def claim_of(request: receipts_pb2.VerifyReceiptRequest, job: jobs_pb2.Job | None = None) -> Claim:
    """Returns what a caller claims to be a receipt, and the job that it is said to be of."""
    receipt = request.receipt
    opened = receipt.disclosure
    asked, answered = bytes.fromhex(opened.prompt_salt), bytes.fromhex(opened.result_salt)
    # No job is not one that says nothing.
    prompt = prompt_text(job) if job is not None else None
    result = job.result if job is not None else None
    if request.HasField("prompt"):
        prompt = request.prompt
    if request.HasField("result"):
        result = request.result
    return Claim(
        body=_body(receipt),
        signature=(_signature(receipt.signature) if receipt.HasField("signature") else None),
        miner_signature=(
            _signature(receipt.miner_signature) if receipt.HasField("miner_signature") else None
        ),
        proof=_proof(receipt.proof) if receipt.HasField("proof") else None,
        told=_told(receipt),
        is_statement_verified=(
            receipt.is_miner_statement_verified
            if receipt.HasField("is_miner_statement_verified")
            else None
        ),
        has_job=job is not None,
        problem_of_job=problem_of_job(receipt, job) if job is not None else None,
        prompt=(asked, prompt) if prompt is not None else None,
        result=(answered, result) if result is not None else None,
        asked=(asked, asked_beside(job)) if job is not None else None,
        answered=((answered, answered_beside(job, job.finish_reason)) if job is not None else None),
    )


def _told(receipt: receipts_pb2.Receipt) -> Told:
    status = receipt.status
    return Told(
        is_sealed=status == receipts_pb2.RECEIPT_STATUS_SEALED if status else None,
        leaf_index=receipt.leaf_index if receipt.HasField("leaf_index") else None,
        leaf_hash=receipt.leaf_hash,
        block_height=receipt.block_height if receipt.HasField("block_height") else None,
    )


def _body(receipt: receipts_pb2.Receipt) -> Mapping[str, Any]:
    body: dict[str, Any] = {}
    for field, value in receipt.ListFields():
        if field.name in SIGNED_FIELDS:
            body[field.name] = value
    for name in _TIMES:
        if name in body:
            # With more digits than six it is not what was signed.
            is_exact = body[name].nanos % 1000 == 0
            body[name] = (
                rfc3339(body[name].ToMicroseconds()) if is_exact else body[name].ToJsonString()
            )
    if "unit_type" in body:
        body["unit_type"] = _UNIT_NAMES[body["unit_type"]]
    if "resumed" in body:
        body["resumed"] = {
            "parts": [
                {field.name: value for field, value in part.ListFields()}
                for part in receipt.resumed.parts
            ]
        }
    if "miner_signature" in body:
        body["miner_signature"] = {
            field.name: list(value) if field.name == "path" else value
            for field, value in receipt.miner_signature.ListFields()
        }
    return body


def _signature(message: receipts_pb2.BatchSignature) -> BatchSignature:
    return BatchSignature(
        public_key=b64decode(message.public_key),
        signature=b64decode(message.signature),
        index=message.index,
        size=message.size,
        path=[bytes.fromhex(hash_) for hash_ in message.path],
    )


def _proof(message: receipts_pb2.InclusionProof) -> Proof:
    return Proof(
        leaf_index=message.leaf_index,
        tree_size=message.tree_size,
        root=bytes.fromhex(message.root_hash),
        path=tuple(bytes.fromhex(hash_) for hash_ in message.path),
        checkpoint=message.checkpoint,
        receipt_id=message.receipt_id,
        leaf_hash=message.leaf_hash,
        block_height=message.block_height if message.HasField("block_height") else None,
        block_hash=message.block_hash,
    )


def _parsed(record: BlockRecord) -> Block:
    return parse_block(note.parse(record.note).text)


def _names(signed: note.Note, origin: str, key: LedgerKey) -> bool:
    hash_ = note.key_hash_of(origin, key.public_key)
    return any(signer == hash_ for _, signer, _ in signed.signatures)

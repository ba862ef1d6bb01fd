"""What miners state and sign of their results: checked before a result is taken."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import NamedTuple

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.api.contents import answered_beside
from aitbc_server.domain.errors import InvalidArgument, MinerSignatureRefused
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.receipts import SALT_BYTES, BatchSignature
from aitbc_server.ledger.contents import salted_hash, whole_hash
from aitbc_server.ledger.merkle import leaf_hash
from aitbc_server.ledger.receipts import VERSION, statement
from aitbc_server.ledger.signing import STATEMENTS, covers, for_each

_DISAGREES = "does not agree with the request"


class Stated(NamedTuple):
    """What a miner signed of one result."""

    result_salt: bytes
    result_hash: bytes
    # Of the whole answer: since version 2 of statements.
    answer_hash: bytes | None
    signature: BatchSignature


def stated_in(
    updates: work_pb2.Updates, *, miner_id: str, public_key: bytes
) -> Mapping[str, Stated]:
    """Returns what a message states, by lease; nothing when its signature does not hold."""
    version = updates.statement_version or 1
    if version not in (1, VERSION):
        return {}
    salts, hashes, leaves = [], {}, []
    for update in updates.updates:
        if update.WhichOneof("event") != "completion":
            continue
        completion, lease_id = update.completion, update.lease_id
        salt = completion.result_salt
        result_hash, answer_hash = salted_hash(salt, completion.result), None
        if version == VERSION:
            beside = answered_beside(completion, completion.finish_reason)
            answer_hash = whole_hash(salt, result_hash, beside)
        salts.append(salt)
        hashes[lease_id] = result_hash, answer_hash
        job_id = job_of_lease(lease_id) or ""
        leaves.append(_leaf(miner_id, job_id, lease_id, result_hash, completion.usage, answer_hash))
    if not leaves or len(hashes) < len(leaves) or any(len(salt) != SALT_BYTES for salt in salts):
        return {}
    signatures = for_each(leaves, public_key, updates.signature, version)
    # One is as good as another: they share the root that was signed.
    if not covers(signatures[0], STATEMENTS, leaves[0]):
        return {}
    return {
        lease_id: Stated(salt, *hashed, signed)
        for (lease_id, hashed), salt, signed in zip(hashes.items(), salts, signatures, strict=True)
    }


def stated_by(
    request: jobs_pb2.CompleteJobRequest, lease_id: str, public_key: bytes
) -> Stated | None:
    """Returns what a miner that polls signed; None when it has no key.

    Raises MinerSignatureRefused.
    """
    if not public_key:
        return None
    given = request.receipt
    salt = bytes.fromhex(given.result_salt)
    if not given.signature:
        raise MinerSignatureRefused("receipt.signature", "is required: the miner has a key")
    if len(salt) != SALT_BYTES:
        raise MinerSignatureRefused("receipt.result_salt", "is required with a signature")
    hashed = salted_hash(salt, request.result)
    signed = BatchSignature(
        public_key=public_key, signature=_decoded(given.signature), index=0, size=1, path=()
    )
    leaf = _leaf(request.miner_id, request.job_id, lease_id, hashed, request.usage)
    if not covers(signed, STATEMENTS, leaf):
        raise MinerSignatureRefused("receipt.signature", "is not the miner's over this result")
    return Stated(salt, hashed, None, signed)


def check_statement(request: jobs_pb2.CompleteJobRequest) -> None:
    """Raises InvalidArgument when a statement says something else than its request."""
    given = request.receipt
    expected = {
        "miner_id": request.miner_id,
        "job_id": request.job_id,
        "lease_id": request.lease_id or given.lease_id,
        "prompt_tokens": request.usage.prompt_tokens,
        "completion_tokens": request.usage.completion_tokens,
    }
    for field, value in given.ListFields():
        if field.name in expected and value != expected[field.name]:
            raise InvalidArgument(f"receipt.{field.name}", _DISAGREES)
    if given.result_hash:
        stated = given.result_hash.lower().removeprefix("sha256:").removeprefix("0x")
        hashed = salted_hash(bytes.fromhex(given.result_salt), request.result)
        if stated != hashed.hex():
            of = "the salt and the result" if given.result_salt else "the result"
            problem = f"{_DISAGREES}: it is not the SHA-256 of {of} in UTF-8"
            raise InvalidArgument("receipt.result_hash", problem)


def check_lease(request: jobs_pb2.CompleteJobRequest, lease_id: str) -> None:
    """Raises InvalidArgument when a statement is of another lease than the miner holds."""
    if request.receipt.lease_id not in ("", lease_id):
        raise InvalidArgument("receipt.lease_id", _DISAGREES)


def statement_of(request: jobs_pb2.CompleteJobRequest) -> bytes:
    """Returns a statement as it is kept; empty when there is none."""
    given = request.receipt
    # What this version does not know has no bounds either.
    given.DiscardUnknownFields()
    return given.SerializeToString()


def _leaf(
    miner_id: str,
    job_id: str,
    lease_id: str,
    result_hash: bytes,
    usage: jobs_pb2.Usage,
    answer_hash: bytes | None = None,
) -> bytes:
    has = usage.HasField
    return leaf_hash(
        statement(
            miner_id=miner_id,
            job_id=job_id,
            lease_id=lease_id,
            result_hash=result_hash.hex(),
            prompt_tokens=usage.prompt_tokens if has("prompt_tokens") else None,
            completion_tokens=usage.completion_tokens if has("completion_tokens") else None,
            answer_hash=answer_hash.hex() if answer_hash is not None else None,
        )
    )


def _decoded(signature: str) -> bytes:
    try:
        return b64decode(signature, validate=True)
    except ValueError as error:
        raise MinerSignatureRefused("receipt.signature", "must be Base64") from error

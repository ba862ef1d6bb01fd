"""What miners state and sign of their results: checked before a result is taken."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.domain.errors import InvalidArgument, MinerSignatureRefused
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.receipts import SALT_BYTES, BatchSignature
from aitbc_server.ledger.merkle import leaf_hash
from aitbc_server.ledger.receipts import salted_hash, statement
from aitbc_server.ledger.signing import STATEMENTS, covers, for_each

PUBLIC_KEY_BYTES = 32


class Stated(NamedTuple):
    """What a miner signed of one result."""

    result_salt: bytes
    result_hash: bytes
    signature: BatchSignature


def stated_in(
    updates: Iterable[work_pb2.Update], signature: bytes, *, miner_id: str, public_key: bytes
) -> Mapping[str, Stated]:
    """Returns what a message states, by lease; nothing when its signature does not hold."""
    salts, hashes, leaves = [], {}, []
    for update in updates:
        if update.WhichOneof("event") != "completion":
            continue
        completion, lease_id = update.completion, update.lease_id
        salts.append(completion.result_salt)
        hashes[lease_id] = salted_hash(completion.result_salt, completion.result)
        leaves.append(
            _leaf(
                miner_id, job_of_lease(lease_id) or "", lease_id, hashes[lease_id], completion.usage
            )
        )
    if not leaves or len(hashes) < len(leaves) or any(len(salt) != SALT_BYTES for salt in salts):
        return {}
    signatures = for_each(leaves, public_key, signature)
    # One is as good as another: they share the root that was signed.
    if not covers(signatures[0], STATEMENTS, leaves[0]):
        return {}
    return {
        lease_id: Stated(salt, hash_, signed)
        for (lease_id, hash_), salt, signed in zip(hashes.items(), salts, signatures, strict=True)
    }


def stated_by(
    request: jobs_pb2.CompleteJobRequest, lease_id: str, public_key: bytes
) -> Stated | None:
    """Returns what a miner that polls signed; None when it has no key.

    Raises InvalidArgument when the statement says something else than the request, and
    MinerSignatureRefused.
    """
    given = request.receipt
    salt = bytes.fromhex(given.result_salt)
    hashed = salted_hash(salt, request.result)
    _check_agreement(request, lease_id, hashed)
    if not public_key:
        return None
    if not given.signature:
        raise MinerSignatureRefused("receipt.signature", "is required: the miner has a key")
    if len(salt) != SALT_BYTES:
        raise MinerSignatureRefused("receipt.result_salt", "is required with a signature")
    signed = BatchSignature(
        public_key=public_key, signature=_decoded(given.signature), index=0, size=1, path=()
    )
    leaf = _leaf(request.miner_id, request.job_id, lease_id, hashed, request.usage)
    if not covers(signed, STATEMENTS, leaf):
        raise MinerSignatureRefused("receipt.signature", "is not the miner's over this result")
    return Stated(salt, hashed, signed)


def _check_agreement(
    request: jobs_pb2.CompleteJobRequest, lease_id: str, result_hash: bytes
) -> None:
    given = request.receipt
    expected = {
        "miner_id": request.miner_id,
        "job_id": request.job_id,
        "lease_id": lease_id,
        "result_hash": result_hash.hex(),
        "prompt_tokens": request.usage.prompt_tokens,
        "completion_tokens": request.usage.completion_tokens,
    }
    for field, value in given.ListFields():
        # A hash says nothing without its salt.
        if field.name == "result_hash" and not given.result_salt:
            continue
        if field.name in expected and value != expected[field.name]:
            raise InvalidArgument(f"receipt.{field.name}", "does not agree with the request")


def _leaf(
    miner_id: str, job_id: str, lease_id: str, result_hash: bytes, usage: jobs_pb2.Usage
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
        )
    )


def _decoded(signature: str) -> bytes:
    try:
        return b64decode(signature, validate=True)
    except ValueError as error:
        raise MinerSignatureRefused("receipt.signature", "must be Base64") from error

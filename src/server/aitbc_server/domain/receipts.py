"""What the ledger is about: the work that receipts tell of, receipts, batches and blocks as stored.

Times are microseconds since the Unix epoch, UTC. Hashes, keys and signatures are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aitbc_server.domain.ids import JOB_PREFIX, is_job_id

RECEIPT_PREFIX = "rcpt-"
SALT_BYTES = 16


def receipt_id_of(job_id: str) -> str:
    """Returns the id of a job's receipt: a completed job has exactly one."""
    return RECEIPT_PREFIX + job_id.removeprefix(JOB_PREFIX)


def job_of_receipt(receipt_id: str) -> str | None:
    """Returns the id of a receipt's job, or None when the text is no receipt id."""
    job_id = JOB_PREFIX + receipt_id.removeprefix(RECEIPT_PREFIX)
    return job_id if receipt_id.startswith(RECEIPT_PREFIX) and is_job_id(job_id) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSignature:
    """A signature over things that were signed together, for one of them."""

    public_key: bytes
    signature: bytes
    # Place among the things that were signed together, and their number.
    index: int
    size: int
    # Hashes from the leaf of the thing to the root that was signed.
    path: Sequence[bytes]
    # Of a miner's: the version of its statements.
    version: int = 1


class Work(NamedTuple):
    """A job that was completed, as its receipt tells of it."""

    job_id: str
    client: str
    model: str
    miner_id: str
    attempt: int
    started_us: int
    completed_us: int
    prompt_tokens: int | None
    completion_tokens: int | None
    # Length of the result in Unicode code points.
    characters: int
    prompt_hash: bytes
    result_hash: bytes
    # Of all that was asked, and of the whole answer.
    request_hash: bytes
    answer_hash: bytes
    miner_signature: BatchSignature | None
    # Characters of the result's beginning that other miners said, in order, by their ids.
    resumed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """Receipts that were stored in one commit and signed together."""

    first_index: int
    size: int
    # When: the latest completion so far, so that it follows from the receipts and never goes back.
    stored_us: int
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRecord:
    """A stored receipt."""

    leaf_index: int
    job_id: str
    leaf_hash: bytes
    # Its canonical bytes: what is signed and hashed.
    body: bytes
    # Salts of the hashes of prompt and result; None once these were deleted.
    prompt_salt: bytes | None = None
    result_salt: bytes | None = None
    # Its block, once sealed.
    block_height: int | None = None
    block_hash: bytes | None = None
    # What its miner said of the work, as a serialised aitbc.v1.MinerStatement; None once deleted.
    statement: bytes | None = None
    # Address of the key that registered the miner; None when nobody did with a key.
    miner_owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """A stored block."""

    height: int
    tree_size: int
    hash: bytes
    # Signed checkpoint.
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A witness's signature over a block's checkpoint."""

    # Its verifier key.
    witness: str
    height: int
    # By the witness's clock, in seconds since the Unix epoch.
    time_s: int
    # The line that it adds to the signed note.
    line: str
    # The block's signed checkpoint, without cosignatures.
    note: str = ""

"""Verifies a whole ledger: every hash, root, link and signature, in the order in which it grew.

It takes nothing from what it checks but the name and the keys, and stops at the first thing that is
wrong. The work is hashing and reading; a signature is verified once for all that it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from aitbc_server.domain.receipts import BatchRecord, receipt_id_of
from aitbc_server.domain.times import micros_of
from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import NO_BLOCK, Block, parse_block
from aitbc_server.ledger.canonical import parse
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.kept import KeptJob, problem_with
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.ledger.merkle import GrowingTree, leaf_hash, root_by_path, root_of
from aitbc_server.ledger.receipts import (
    SIGNED_FIELDS,
    miner_address,
    problem_of_version,
    signed_in,
    statement_in,
)
from aitbc_server.ledger.signing import RECEIPTS, STATEMENTS, is_root_signed
from aitbc_server.ledger.trust import NO_TRUST, Trust, Trusted, chained

# Miners' signatures that were verified and may come again.
_REMEMBERED = 10_000


class StoredReceipt(NamedTuple):
    """A receipt as it is kept; what is beside its body is None where only bodies are published."""

    leaf_index: int
    body: bytes
    job_id: str | None = None
    client: str | None = None
    miner: str | None = None
    leaf_hash: bytes | None = None
    # Of its job, where jobs are known: whether it was forgotten, and what is kept of it.
    is_forgotten: bool | None = None
    job: KeptJob | None = None


class StoredBlock(NamedTuple):
    """A block as it is kept; what is beside its note is None where only notes are published."""

    note: str
    height: int
    tree_size: int | None = None
    hash: bytes | None = None


class Source(Protocol):
    """Where a ledger is kept. Everything comes in the order in which it was made."""

    # Its name, and how many receipts it has.
    origin: str
    size: int

    def keys(self) -> Sequence[LedgerKey]:
        """Returns its keys."""
        ...

    def receipts(self) -> Iterator[StoredReceipt]:
        """Yields its receipts."""
        ...

    def batches(self) -> Iterator[BatchRecord]:
        """Yields what was signed together."""
        ...

    def blocks(self) -> Iterator[StoredBlock]:
        """Yields its blocks."""
        ...

    def nodes(self) -> Mapping[tuple[int, int], bytes] | None:
        """Returns the nodes kept above the leaves, by level and position, where they are kept."""
        ...

    def unreceipted(self) -> str | None:
        """Returns a completed job without a receipt, where jobs are known."""
        ...

    def counts(self) -> Sequence[tuple[str, int, int]]:
        """Returns what is counted, how many there are and should be, where jobs are known."""
        ...

    def cosigned(self) -> Sequence[str]:
        """Returns the checkpoints that witnesses cosigned, as signed notes."""
        ...


@dataclass(slots=True)
class Audited:
    """What was found to be right."""

    receipts: int = 0
    blocks: int = 0
    keys: int = 0
    # Receipts that no block holds yet.
    pending: int = 0
    # Receipts whose jobs were forgotten.
    forgotten: int = 0
    # Signatures that were verified.
    signatures: int = 0
    # Receipts that every witness asked for has cosigned.
    witnessed: int = 0
    # Hash and signed note of the last block.
    last_block: bytes = field(default=NO_BLOCK)
    last_note: str | None = None


def audit(
    source: Source,
    on_progress: Callable[[int], None] = lambda _: None,
    trust: Trust = NO_TRUST,
) -> Audited:
    """Verifies all of it, also against what is known of it from elsewhere.

    Calls back with the receipts done so far. Raises LedgerWrong.
    """
    return _Audit(source, on_progress, trust).run()


class _Audit:
    def __init__(self, source: Source, on_progress: Callable[[int], None], trust: Trust) -> None:
        self._source = source
        self._on_progress = on_progress
        self._keys = chained(source.keys())
        self._trusted = Trusted(trust, source.origin, self._keys, source.cosigned())
        self._done = Audited(keys=len(self._keys), witnessed=self._trusted.witnessed)
        self._tree = GrowingTree()
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._stored_us = 0
        self._blocks = source.blocks()
        self._next_block = next(self._blocks, None)
        self._sealed = 0
        self._statements: set[tuple[bytes, bytes, bytes]] = set()
        # The first receipt whose job is not as it should be.
        self._of_job: LedgerWrong | None = None

    def run(self) -> Audited:
        receipts = self._source.receipts()
        for batch in self._source.batches():
            self._check_batch(batch, receipts)
            self._check_blocks()
            self._on_progress(self._tree.size)
        more = next(receipts, None)
        if more is not None:
            raise LedgerWrong(f"receipt {more.leaf_index}", "the coordinator did not sign it")
        if self._next_block is not None:
            raise LedgerWrong(
                f"block {self._next_block.height}", "the ledger lacks the receipts that it seals"
            )
        self._trusted.check_end(self._done.blocks)
        self._check_nodes()
        missing = self._source.unreceipted()
        if missing is not None:
            raise LedgerWrong(f"job {missing}", "it is completed, but has no receipt")
        for things, count, expected in self._source.counts():
            if count != expected:
                raise LedgerWrong(things, f"there are {count}, and should be {expected}")
        self._done.receipts = self._tree.size
        self._done.pending = self._tree.size - self._sealed
        return self._done

    # Receipts

    def _check_batch(self, batch: BatchRecord, receipts: Iterator[StoredReceipt]) -> None:
        first = self._tree.size
        if batch.first_index != first or batch.size < 1:
            raise LedgerWrong(
                f"signature of receipt {batch.first_index}", f"receipt {first} should come next"
            )
        leaves = [
            self._check_receipt(receipt, first + place)
            for place, receipt in enumerate(islice(receipts, batch.size))
        ]
        if len(leaves) < batch.size:
            raise LedgerWrong(f"receipt {first + len(leaves)}", "it is missing")
        if batch.public_key not in self._keys:
            raise LedgerWrong(f"signature of receipt {first}", "its key is none of the ledger's")
        root = root_of(leaves)
        if not is_root_signed(
            RECEIPTS, root, public_key=batch.public_key, signature=batch.signature
        ):
            last = first + batch.size - 1
            raise LedgerWrong(
                f"receipt {first}" if first == last else f"receipts {first} to {last}",
                "the coordinator's signature does not hold",
            )
        self._done.signatures += 1
        if batch.stored_us != self._stored_us:
            raise LedgerWrong(f"signature of receipt {first}", "its time is another than theirs")
        if self._of_job is not None:
            # After the signature: where both are wrong, the receipt was changed and not the job.
            raise self._of_job
        for level, position, hash_ in self._tree.append(leaves):
            self._nodes[level, position] = hash_

    def _check_receipt(self, receipt: StoredReceipt, expected: int) -> bytes:
        if receipt.leaf_index != expected:
            raise LedgerWrong(
                f"receipt {expected}", f"receipt {receipt.leaf_index} is in its place"
            )
        leaf = leaf_hash(receipt.body)
        try:
            body = parse(receipt.body)
            self._stored_us = max(self._stored_us, micros_of(body["completed_at"]))
            problem = self._problem(body, receipt, leaf)
            of_job = self._problem_of_job(body, receipt)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"it cannot be read: {error}"
        if problem is not None:
            raise LedgerWrong(f"receipt {expected}", problem)
        if of_job is not None and self._of_job is None:
            self._of_job = LedgerWrong(f"receipt {expected}", of_job)
        return leaf

    def _problem_of_job(self, body: dict[str, Any], receipt: StoredReceipt) -> str | None:
        if receipt.is_forgotten is None:
            return None
        self._done.forgotten += receipt.is_forgotten
        return problem_with(body, receipt.job, is_forgotten=receipt.is_forgotten)

    def _problem(self, body: dict[str, Any], receipt: StoredReceipt, leaf: bytes) -> str | None:
        if not SIGNED_FIELDS.keys() >= body.keys():
            return "it has a field that no receipt has"
        if body["coordinator"] != self._source.origin:
            return "it is of another ledger"
        if body["receipt_id"] != receipt_id_of(body["job_id"]):
            return "its id is not that of its job"
        if body["miner"] != miner_address(body["miner_id"]):
            return "its miner's address is not that of its miner"
        if receipt.leaf_hash is not None and (
            receipt.leaf_hash != leaf
            or (receipt.job_id, receipt.client, receipt.miner)
            != (body["job_id"], body["client"], body["miner"])
        ):
            return "what is kept beside it is not what it says"
        problem = problem_of_version(body)
        if problem is not None:
            return problem
        if "miner_signature" in body and not self._is_stated(body):
            return "the miner's signature does not hold"
        return None

    def _is_stated(self, body: dict[str, Any]) -> bool:
        signed = signed_in(body["miner_signature"])
        leaf = leaf_hash(statement_in(body))
        root = root_by_path(leaf, signed.index, signed.size, signed.path)
        if root is None:
            return False
        known = (signed.public_key, signed.signature, root)
        if known in self._statements:
            return True
        self._done.signatures += 1
        if len(self._statements) >= _REMEMBERED:
            self._statements.clear()
        self._statements.add(known)
        return is_root_signed(
            STATEMENTS, root, public_key=signed.public_key, signature=signed.signature
        )

    # Blocks

    def _check_blocks(self) -> None:
        while (stored := self._next_block) is not None:
            block, signed = _parsed(stored)
            if block.tree_size > self._tree.size:
                return
            self._check_block(stored, block, signed)
            self._done.blocks += 1
            self._done.last_block, self._done.last_note = block.hash, stored.note
            self._sealed = block.tree_size
            self._next_block = next(self._blocks, None)

    def _check_block(self, stored: StoredBlock, block: Block, signed: note.Note) -> None:
        expected = self._done.blocks
        name = f"block {stored.height}"
        if (stored.height, block.height) != (expected, expected):
            raise LedgerWrong(name, f"block {expected} should come next")
        if block.origin != self._source.origin:
            raise LedgerWrong(name, "it is of another ledger")
        if block.previous != self._done.last_block:
            raise LedgerWrong(name, "it does not name the block before it")
        if block.tree_size <= self._sealed or block.tree_size != self._tree.size:
            raise LedgerWrong(name, "it does not end where a commit did")
        if block.root != self._tree.root():
            raise LedgerWrong(name, "its root is not that of its receipts")
        if block.time_us != self._stored_us:
            raise LedgerWrong(name, "its time is not that of its last receipt")
        if stored.hash is not None and (stored.hash, stored.tree_size) != (
            block.hash,
            block.tree_size,
        ):
            raise LedgerWrong(name, "what is kept beside it is not what it says")
        if len(signed.signatures) != 1 or not any(
            signed.is_signed_by(block.origin, key) for key in self._keys
        ):
            raise LedgerWrong(name, "no key of the ledger signed it")
        self._trusted.check_block(block, signed)
        self._done.signatures += 1

    def _check_nodes(self) -> None:
        kept = self._source.nodes()
        if kept is None:
            return
        for place in sorted(self._nodes.keys() | kept.keys()):
            if self._nodes.get(place) != kept.get(place):
                level, position = place
                raise LedgerWrong(f"node {position} of level {level}", "it is wrong")


def _parsed(stored: StoredBlock) -> tuple[Block, note.Note]:
    try:
        signed = note.parse(stored.note)
        return parse_block(signed.text), signed
    except ValueError as error:
        raise LedgerWrong(f"block {stored.height}", f"its checkpoint {error}") from error

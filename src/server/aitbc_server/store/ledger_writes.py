"""Writes of the ledger: receipts, in the commit that completes their jobs, and blocks.

What a commit appends costs two hashes and a row a receipt, and one signature. A block is a root of
what is appended already and another signature: no more work however much it seals. Runs on the
writer's thread.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aitbc_server.domain.jobs import Completion
from aitbc_server.domain.prices import PriceTable
from aitbc_server.domain.receipts import SALT_BYTES, BlockRecord, Cosignature, Work
from aitbc_server.ledger.blocks import NO_BLOCK, Block
from aitbc_server.ledger.contents import TEXTS, Contents, salted_hash, whole_hash
from aitbc_server.ledger.keys import (
    LedgerKeyMissingError,
    Signer,
    count_keys,
    create_key,
    endorsed,
    load_signers,
)
from aitbc_server.ledger.merkle import GrowingTree
from aitbc_server.ledger.note import key_hash_of
from aitbc_server.ledger.receipts import (
    Entry,
    Receipts,
    miner_address,
    sign_entries,
)
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.ledger_reads import LedgerReads
from aitbc_server.store.rows import json_rows, packed
from aitbc_server.store.statements import statements
from aitbc_server.store.writer import Writes

_SQL = statements("ledger_writes.sql")
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """What an operator may say about the ledger."""

    # Its name; by default one is made from its first key. It never changes after the first start.
    name: str | None = None
    prices: PriceTable = PriceTable()  # noqa: RUF009 - it is frozen
    # Receipts after which a block is sealed without waiting.
    block_receipts: int = 10_000
    # Reads what was submitted and answered.
    contents: Contents = TEXTS
    randbytes: Callable[[int], bytes] = secrets.token_bytes
    # When a new key was taken in.
    now_us: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class SealBlock:
    """Seals all receipts that no block holds; answers with the block, or None."""


@dataclass(frozen=True, slots=True)
class KeepCosignature:
    """Keeps what a witness cosigned, unless a newer one of it is kept."""

    cosignature: Cosignature


class LedgerWrites:
    """The part of the writer that the ledger is."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        data: Path,
        options: LedgerOptions,
    ) -> None:
        """Makes the ledger and its first key where there is none.

        Raises OSError, and LedgerKeyMissingError when the key that signed last is not there.
        """
        self._connection = connection
        self._reads = LedgerReads(connection)
        self._data = data
        self._options = options
        self._signers: list[Signer] = []
        self._load_keys()
        first = self._reads.signing_keys()[0]
        name = options.name or f"aitbc/{key_hash_of('aitbc', first.public_key).hex()}"
        self._execute("insert_origin", name)
        self.origin = self._reads.origin()
        self._receipts = Receipts(self.origin, options.prices, options.randbytes)
        self._tree = GrowingTree()
        self._stored_us = 0
        self._last_block: BlockRecord | None = None
        self.writes: Writes = {
            SealBlock: self._seal_each,
            KeepCosignature: self._keep_cosignatures,
        }

    def append(self, works: Sequence[Work]) -> None:
        """Stores the receipts of work that the same transaction completes."""
        if not works:
            return
        self._take_up()
        first = self._tree.size
        entries = self._receipts.make(works)
        self._insert_receipts(first, entries)
        nodes = self._tree.append([entry.leaf_hash for entry in entries])
        if nodes:
            rows = [(level, position, hash_.hex()) for level, position, hash_ in nodes]
            self._execute("insert_nodes", json_rows(rows))
        # From the receipts themselves, so that whoever has them can tell.
        self._stored_us = max(self._stored_us, max(work.completed_us for work in works))
        self._execute(
            "insert_batch",
            first,
            len(entries),
            self._stored_us,
            len(self._signers) - 1,
            sign_entries(entries, self._signers[-1]),
        )
        self._count(works)
        if self._unsealed >= self._options.block_receipts:
            self._seal()

    def salt(self) -> bytes:
        """Returns the random bytes that come before a text where it is hashed."""
        return self._options.randbytes(SALT_BYTES)

    def hash_request(self, job_id: str) -> tuple[bytes, bytes]:
        """Makes and stores the hashes of prompt and request of a job without; returns them."""
        spec, salt = self._execute("spec", job_id).fetchone()
        salt = salt or self.salt()
        asked = self._options.contents.asked(spec)
        prompt_hash = salted_hash(salt, asked.prompt)
        request_hash = whole_hash(salt, prompt_hash, asked.beside)
        self._execute("hash_request", job_id, salt, prompt_hash, request_hash)
        return prompt_hash, request_hash

    def hash_answer(self, salt: bytes, result_hash: bytes, completion: Completion) -> bytes:
        """Returns the hash of a whole answer, of which the text has that hash."""
        answered = completion.answered or self._options.contents.answered(
            completion.details, completion.finish_reason
        )
        return whole_hash(salt, result_hash, answered)

    @property
    def _unsealed(self) -> int:
        return self._tree.size - (self._last_block.tree_size if self._last_block else 0)

    def _take_up(self) -> None:
        """Goes on where the stored ledger ends: elsewhere, after a transaction was rolled back."""
        size, stored_us, blocks, keys = self._execute("end").fetchone()
        known_blocks = self._last_block.height + 1 if self._last_block else 0
        if (size, blocks) != (self._tree.size, known_blocks):
            self._tree = GrowingTree(size, self._reads.nodes)
            self._stored_us = stored_us
            self._last_block = self._reads.last_block()
        if keys != len(self._signers):
            self._load_keys()

    def _insert_receipts(self, first: int, entries: Sequence[Entry]) -> None:
        offsets, heap = packed(entry.body for entry in entries)
        rows = [
            (
                first + at,
                entry.work.job_id,
                entry.work.client,
                miner_address(entry.work.miner_id),
                entry.leaf_hash.hex(),
                *offset,
            )
            for at, (entry, offset) in enumerate(zip(entries, offsets, strict=True))
        ]
        self._connection.execute(_SQL["insert_receipts"], (json_rows(rows), heap))

    def _count(self, works: Sequence[Work]) -> None:
        jobs: Counter[int] = Counter()
        tokens: Counter[int] = Counter()
        for work in works:
            minute = work.completed_us // _MINUTE_US
            jobs[minute] += 1
            tokens[minute] += (work.prompt_tokens or 0) + (work.completion_tokens or 0)
        rows = [(minute, jobs[minute], tokens[minute]) for minute in jobs]
        self._execute("count_minutes", json_rows(rows))

    # Blocks

    def _seal_each(self, operations: Sequence[SealBlock]) -> Sequence[BlockRecord | None]:
        self._take_up()
        if count_keys(self._data) != len(self._signers):
            self._load_keys()
        return [self._seal() if self._unsealed else None for _ in operations]

    def _keep_cosignatures(self, operations: Sequence[KeepCosignature]) -> Sequence[None]:
        for one in (operation.cosignature for operation in operations):
            self._execute("keep_cosignature", one.witness, one.height, one.time_s, one.line)
        return [None] * len(operations)

    def _seal(self) -> BlockRecord:
        last = self._last_block
        block = Block(
            origin=self.origin,
            tree_size=self._tree.size,
            root=self._tree.root(),
            height=last.height + 1 if last else 0,
            previous=last.hash if last else NO_BLOCK,
            time_us=self._stored_us,
        )
        note = block.signed(self._signers[-1])
        self._execute("insert_block", block.height, block.tree_size, block.hash, note)
        self._last_block = BlockRecord(
            height=block.height, tree_size=block.tree_size, hash=block.hash, note=note
        )
        return self._last_block

    # Keys

    def _load_keys(self) -> None:
        """Takes in keys that are new, each endorsed by the one before; the last one signs."""
        known = [key.public_key for key in self._reads.signing_keys()]
        if not known and not count_keys(self._data):
            create_key(self._data)
        signers = load_signers(self._data)
        files = [signer.public_key for signer in signers]
        if files[: len(known)] != known:
            raise LedgerKeyMissingError(
                f"{self._data}/ledger-keys lacks keys that signed the ledger: restore it from the "
                "backup that the database is from"
            )
        for number in range(len(known), len(signers)):
            endorsement = signers[number - 1].sign(endorsed(files[number])) if number else None
            self._execute("insert_key", number, files[number], endorsement, self._options.now_us())
        self._signers = signers

    def _execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        return self._connection.execute(_SQL[statement], parameters)

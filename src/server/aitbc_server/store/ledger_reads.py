"""Reads of the ledger. Runs on the reader's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aitbc_server.domain.receipts import (
    BatchRecord,
    BatchSignature,
    BlockRecord,
    Cosignature,
    ReceiptRecord,
)
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.ledger.merkle import consistency_path, inclusion_path
from aitbc_server.ledger.signing import for_member
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.statements import statements

_SQL = statements("ledger_reads.sql")
# Above every place in the ledger.
END = 2**62


class LedgerReads:
    """What is read of the ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def origin(self) -> str:
        """Returns the ledger's name."""
        name: str = self._row("origin")[0]
        return name

    def signing_keys(self) -> list[LedgerKey]:
        """Returns the keys that sign or signed, the oldest first."""
        return [LedgerKey(*row) for row in self._rows("keys")]

    def size(self) -> int:
        """Returns how many receipts there are."""
        size: int = self._row("size")[0]
        return size

    # Receipts

    def receipt(self, job_id: str) -> ReceiptRecord | None:
        """Returns a job's receipt, with its salts and what its miner said."""
        row = self._row("receipt", job_id)
        if row is None:
            return None
        prompt_salt, result_salt, statement, miner_owner = row[4:]
        return self._receipt(
            row,
            prompt_salt=prompt_salt,
            result_salt=result_salt,
            statement=statement,
            miner_owner=miner_owner,
        )

    def receipt_by_hash(self, leaf_hash: bytes) -> ReceiptRecord | None:
        """Returns the receipt of a transaction."""
        row = self._row("receipt_by_hash", leaf_hash)
        return self._receipt(row) if row else None

    def receipts(
        self, *, first: int, before: int, limit: int, client: str | None, miner: str | None
    ) -> list[ReceiptRecord]:
        """Returns the last receipts of a range, the newest first, by who pays and is paid."""
        return self._page(first, before, limit, client=client, miner=miner)

    def receipts_of(
        self, address: str, *, first: int, before: int, limit: int
    ) -> list[ReceiptRecord]:
        """Returns the last receipts of a range that an address pays or is paid by."""
        pays = self._page(first, before, limit, client=address, miner=None)
        paid = self._page(first, before, limit, client=None, miner=address)
        found = {record.leaf_index: record for record in (*pays, *paid)}
        return [found[index] for index in sorted(found, reverse=True)[:limit]]

    def first_since(self, time_us: int) -> int:
        """Returns the first leaf that was stored at a time or after; the end when there is none."""
        row = self._row("first_since", time_us)
        return row[0] if row else END

    def signature(self, leaf_index: int) -> BatchSignature:
        """Returns the coordinator's signature for one receipt."""
        batch = BatchRecord(**_named(BatchRecord, self._row("batch_of", leaf_index)))
        leaves = self._leaves(batch.first_index, batch.size)
        return for_member(leaves, leaf_index - batch.first_index, batch.public_key, batch.signature)

    def bodies(self, first: int, before: int) -> list[bytes]:
        """Returns the canonical bytes of the receipts in a range."""
        return [row[0] for row in self._rows("bodies", first, before)]

    def batches(self, first: int, before: int) -> list[BatchRecord]:
        """Returns the batches that begin in a range."""
        rows = self._rows("batches", first, before)
        return [BatchRecord(**_named(BatchRecord, row)) for row in rows]

    # The tree

    def inclusion(self, leaf_index: int, tree_size: int) -> list[bytes]:
        """Returns the proof that a leaf is in the tree of a size."""
        return inclusion_path(self.nodes, leaf_index, tree_size)

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Returns the proof that the tree of a size begins with that of a smaller one."""
        return consistency_path(self.nodes, old_size, new_size)

    def nodes(self, level: int, start: int, count: int) -> list[bytes]:
        """Returns hashes of a level of the tree, leaves being level 0."""
        if level == 0:
            return self._leaves(start, count)
        return [row[0] for row in self._rows("nodes", level, start, start + count)]

    # Blocks

    def last_block(self) -> BlockRecord | None:
        """Returns the newest block."""
        return _block(self._row("last_block"))

    def block(self, height: int) -> BlockRecord | None:
        """Returns a block by its number."""
        return _block(self._row("block", height))

    def block_by_hash(self, block_hash: bytes) -> BlockRecord | None:
        """Returns a block by its hash."""
        return _block(self._row("block_by_hash", block_hash))

    def block_of(self, leaf_index: int) -> BlockRecord | None:
        """Returns the block that holds a leaf, once it is sealed."""
        return _block(self._row("block_of", leaf_index))

    def blocks(self, before: int, limit: int) -> list[BlockRecord]:
        """Returns the blocks below a height, the newest first."""
        rows = self._rows("blocks", before, limit)
        return [BlockRecord(**_named(BlockRecord, row)) for row in rows]

    def blocks_after(self, height: int, limit: int) -> list[BlockRecord]:
        """Returns the blocks above a height, the oldest first."""
        rows = self._rows("blocks_after", height, limit)
        return [BlockRecord(**_named(BlockRecord, row)) for row in rows]

    def cosignatures(self) -> list[Cosignature]:
        """Returns what each witness cosigned last."""
        return [Cosignature(**_named(Cosignature, row)) for row in self._rows("cosignatures")]

    def minutes(self, first: int) -> list[tuple[int, int, int]]:
        """Returns (minute, jobs, tokens) of each minute from one on that had any."""
        return [(row[0], row[1], row[2]) for row in self._rows("minutes", first)]

    # Inside

    def _leaves(self, start: int, count: int) -> list[bytes]:
        return [row[0] for row in self._rows("leaves", start, start + count)]

    def _page(
        self, first: int, before: int, limit: int, *, client: str | None, miner: str | None
    ) -> list[ReceiptRecord]:
        statement = "page" + ("_client" if client else "") + ("_miner" if miner else "")
        values = {
            "first": first,
            "before": before,
            "limit": limit,
            "client": client,
            "miner": miner,
        }
        rows = self._connection.execute(_SQL[statement], values).fetchall()
        return [self._receipt(row) for row in rows]

    def _receipt(self, row: Sequence[Any], **more: Any) -> ReceiptRecord:
        block = self.block_of(row[0])
        return ReceiptRecord(
            leaf_index=row[0],
            job_id=row[1],
            leaf_hash=row[2],
            body=row[3],
            block_height=block.height if block else None,
            block_hash=block.hash if block else None,
            **more,
        )

    def _row(self, statement: str, *parameters: Any) -> Any:
        return self._connection.execute(_SQL[statement], parameters).fetchone()

    def _rows(self, statement: str, *parameters: Any) -> list[Any]:
        return self._connection.execute(_SQL[statement], parameters).fetchall()


def _block(row: Sequence[Any] | None) -> BlockRecord | None:
    return BlockRecord(**_named(BlockRecord, row)) if row else None


def _named(kind: Callable[..., Any], row: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(kind.__slots__, row, strict=True))  # type: ignore[attr-defined]  # a dataclass

"""The ledger as services use it: reads on the reader's thread, blocks by the writer's."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from aitbc_server.domain.receipts import BlockRecord, Cosignature
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.ledger_reads import LedgerReads
from aitbc_server.store.ledger_writes import KeepCosignature, SealBlock

T = TypeVar("T")


class StoredLedger:
    """Receipts and blocks. Futures raise StorageUnavailable."""

    def __init__(
        self, origin: str, reads: LedgerReads, reader: BatchThread, writer: BatchThread
    ) -> None:
        # Its name.
        self.origin = origin
        self._reads = reads
        self._reader = reader
        self._writer = writer

    def read(self, query: Callable[[LedgerReads], T]) -> Future[T]:
        """Runs a query of any number of reads in one go."""
        return self._reader.put(partial(query, self._reads))

    def seal(self) -> Future[BlockRecord | None]:
        """Seals what no block holds; returns the block, or None when there was nothing."""
        return self._writer.put(SealBlock())

    def keep_cosignature(self, cosignature: Cosignature) -> Future[None]:
        """Keeps what a witness cosigned, unless a newer one of it is kept."""
        return self._writer.put(KeepCosignature(cosignature))

    def last_block(self) -> Future[BlockRecord | None]:
        """Returns the newest block."""
        return self.read(LedgerReads.last_block)

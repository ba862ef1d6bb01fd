"""A ledger in a database, read beside the coordinator that serves from it, if one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aitbc_server.domain.receipts import BatchRecord
from aitbc_server.ledger.audit import StoredBlock, StoredReceipt
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.failures import unusable
from aitbc_server.store.ledger_reads import LedgerReads
from aitbc_server.store.statements import statements

_SQL = statements("ledger_audit.sql")


class LedgerFile:
    """The source of an audit, as of one moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._reads = LedgerReads(connection)
        self.origin = self._reads.origin()
        self.size = self._reads.size()

    def keys(self) -> Sequence[LedgerKey]:
        """Returns its keys."""
        return self._reads.signing_keys()

    def receipts(self) -> Iterator[StoredReceipt]:
        """Yields its receipts."""
        return map(StoredReceipt._make, self._connection.execute(_SQL["receipts"]))

    def batches(self) -> Iterator[BatchRecord]:
        """Yields what was signed together."""
        for row in self._connection.execute(_SQL["batches"]):
            yield BatchRecord(
                first_index=row[0],
                size=row[1],
                stored_us=row[2],
                public_key=row[3] or b"",
                signature=row[4],
            )

    def blocks(self) -> Iterator[StoredBlock]:
        """Yields its blocks."""
        return map(StoredBlock._make, self._connection.execute(_SQL["blocks"]))

    def nodes(self) -> Mapping[tuple[int, int], bytes]:
        """Returns the nodes above the leaves."""
        rows = self._connection.execute(_SQL["nodes"])
        return {(level, position): hash_ for level, position, hash_ in rows}

    def unreceipted(self) -> str | None:
        """Returns a completed job without a receipt."""
        job_id: str | None = self._connection.execute(_SQL["unreceipted"]).fetchone()[0]
        return job_id


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


@contextmanager
def open_ledger(directory: Path) -> Iterator[LedgerFile]:
    """Gives the ledger of a coordinator's directory, which stays as it is meanwhile.

    Raises OSError, UnusableDatabaseError and SqliteTooOldError.
    """
    path = directory / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: name the coordinator's directory with --data"
        )
    with unusable(path):
        connection = connect(path, read_only=True)
        # What is no text any more is to be found wrong, not to end the reading.
        connection.text_factory = _text
        try:
            connection.execute("BEGIN")
            yield LedgerFile(connection)
        finally:
            connection.close()

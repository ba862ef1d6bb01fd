"""A ledger in a database, read beside the coordinator that serves from it, if one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aitbc_server.domain.receipts import BatchRecord
from aitbc_server.ledger.audit import StoredBlock, StoredReceipt
from aitbc_server.ledger.contents import TEXTS, Contents
from aitbc_server.ledger.kept import KeptJob, KeptText
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.failures import unusable
from aitbc_server.store.ledger_reads import LedgerReads
from aitbc_server.store.statements import statements

_SQL = statements("ledger_audit.sql")


class LedgerFile:
    """The source of an audit, as of one moment."""

    def __init__(self, connection: sqlite3.Connection, contents: Contents = TEXTS) -> None:
        """`contents` reads what was submitted and answered."""
        self._connection = connection
        self._contents = contents
        self._reads = LedgerReads(connection)
        self.origin = self._reads.origin()
        self.size = self._reads.size()

    def keys(self) -> Sequence[LedgerKey]:
        """Returns its keys."""
        return self._reads.signing_keys()

    def receipts(self) -> Iterator[StoredReceipt]:
        """Yields its receipts, with what is kept of their jobs."""
        for row in self._connection.execute(_SQL["receipts"]):
            yield StoredReceipt._make((*row[:6], bool(row[6]), self._job(row[7:])))

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

    def counts(self) -> Sequence[tuple[str, int, int]]:
        """Returns what is counted, how many there are, and how many should be."""
        return self._connection.execute(_SQL["counts"]).fetchall()

    def cosigned(self) -> Sequence[str]:
        """Returns the checkpoints that witnesses cosigned."""
        return [one.note + one.line for one in self._reads.cosignatures()]

    def _job(self, row: Sequence[Any]) -> KeptJob | None:
        """Returns what is kept of a job: None only when nothing is."""
        *facts, prompt_salt, spec, result_salt, result, details, finish_reason = row
        if facts[0] is None and spec is None and result is None:
            return None
        prompt, answer = None, None
        if prompt_salt is not None and spec is not None:
            with suppress(ValueError):
                prompt = KeptText(prompt_salt, *self._contents.asked(spec))
        if result_salt is not None and result is not None:
            answer = KeptText(result_salt, result, self._answered(details, finish_reason))
        return KeptJob._make((*facts, prompt, answer))

    def _answered(self, details: bytes | None, finish_reason: str | None) -> bytes | None:
        # TypeError: of a reason that is no text any more.
        with suppress(ValueError, TypeError):
            return self._contents.answered(details or b"", finish_reason or "")
        return None


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


@contextmanager
def open_ledger(directory: Path, contents: Contents = TEXTS) -> Iterator[LedgerFile]:
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
            yield LedgerFile(connection, contents)
        finally:
            connection.close()

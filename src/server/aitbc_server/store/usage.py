"""Usage on the SQLite file: counted with the jobs, read for reports and budgets."""

from __future__ import annotations

from asyncio import Future
from collections import Counter
from collections.abc import Sequence
from functools import partial

from aitbc_server.domain.jobs import NewJob
from aitbc_server.domain.prices import PriceTable
from aitbc_server.domain.receipts import Work
from aitbc_server.domain.usage import DAY_US, Spent, Usage, UsageQuery
from aitbc_server.ledger.receipts import units_of
from aitbc_server.store.batch import BatchThread
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.rows import json_rows
from aitbc_server.store.statements import statements

_SQL = statements("usage.sql")
_CONDITIONS = {
    "owner": "usage.owner = ?3",
    "model": "usage.model = ?4",
    "miner_id": "usage.miner_id = ?5",
    "miner_owner": "usage.miner_id IN (SELECT miner_id FROM miners WHERE miners.owner = ?6)",
}
# The price is stored as a whole number of this and a rest.
_WHOLE = 10**18
_HALF = 10**9


class UsageCounts:
    """Counts jobs in the transaction that submits or ends them. Runs on the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, prices: PriceTable) -> None:
        self._connection = connection
        self._prices = prices

    def submitted(self, jobs: Sequence[NewJob]) -> None:
        """Counts new jobs."""
        counts = Counter([(job.created_us // DAY_US, job.owner, job.model) for job in jobs])
        rows = [(*group, count) for group, count in counts.items()]
        self._connection.execute(_SQL["count_submitted"], (json_rows(rows),))

    def completed(self, works: Sequence[Work]) -> None:
        """Counts work that the transaction completes."""
        groups: dict[tuple[int, str, str, str], list[int]] = {}
        for work in works:
            key = (work.completed_us // DAY_US, work.client, work.model, work.miner_id)
            counts = groups.setdefault(key, [0, 0, 0, 0])
            units = units_of(work.prompt_tokens, work.completion_tokens, work.characters)
            counts[0] += 1
            counts[1] += work.prompt_tokens or 0
            counts[2] += work.completion_tokens or 0
            counts[3] += self._prices.amount(work.model, *units)
        if groups:
            rows = [
                (*key, jobs, prompt, completion, *divmod(price, _WHOLE))
                for key, (jobs, prompt, completion, price) in groups.items()
            ]
            self._connection.execute(_SQL["count_completed"], (json_rows(rows),))

    def ended(self, rows: str) -> None:
        """Counts jobs that the transaction is about to end without a result."""
        self._connection.execute(_SQL["count_ended"], (rows,))


class UsageTable:
    """What was used, for who asks. Futures as in the Store."""

    def __init__(self, reads: BatchThread, connection: sqlite3.Connection) -> None:
        self._read = reads.put
        self._connection = connection

    def spent(self, owner: str, day: int) -> Future[Spent]:
        """Returns what an owner used on a day."""
        return self._read(partial(self._spent, owner, day))

    def usage(self, query: UsageQuery) -> Future[list[Usage]]:
        """Returns a page of usage."""
        return self._read(partial(self._usage, query))

    def _spent(self, owner: str, day: int) -> Spent:
        jobs, tokens = self._connection.execute(_SQL["spent"], (owner, day)).fetchone()
        return Spent(jobs=jobs, tokens=tokens)

    def _usage(self, query: UsageQuery) -> list[Usage]:
        values = (
            query.first_day,
            query.last_day,
            query.owner,
            query.model,
            query.miner_id,
            query.miner_owner,
            query.by_day,
            query.by_owner,
            query.by_model,
            query.by_miner,
            *query.after,
            query.limit,
        )
        rows = self._connection.execute(usage_statement(query), values).fetchall()
        names = Usage.__slots__
        return [
            Usage(
                **dict(zip(names, row[:10], strict=False)),
                price=row[10] * _WHOLE + row[11] * _HALF + row[12],
            )
            for row in rows
        ]


def usage_statement(query: UsageQuery) -> str:
    """Returns the statement that finds this usage by its index."""
    asked = [sql for name, sql in _CONDITIONS.items() if getattr(query, name) is not None]
    return _SQL["usage"].replace("AND true", " ".join(f"AND {sql}" for sql in asked), 1)

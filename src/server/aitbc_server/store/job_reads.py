"""Reads of jobs and miners. Runs on the reader's thread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import orjson

from aitbc_server.domain import sizes
from aitbc_server.domain.asks import Asks
from aitbc_server.domain.ids import JOB_PREFIX, first_job_id
from aitbc_server.domain.jobs import (
    AttemptRecord,
    JobPage,
    JobRecord,
    JobStatus,
    LiveRecord,
    Totals,
)
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.domain.tasks import Task
from aitbc_server.domain.times import ALWAYS, Span
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.rows import json_rows
from aitbc_server.store.statements import statements

_SQL = statements("job_reads.sql")
# Greater than every job id.
_AFTER_ALL = JOB_PREFIX + "~"
# Jobs that one page looks at when no index has both of what is asked for.
_SCAN = 1000
_MILLISECOND_US = 1000


class JobReads:
    """What is read of jobs and miners."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def job(self, job_id: str, *, attempts: bool = False) -> JobRecord | None:
        """Returns a job, with the attempts that ended when they are asked for."""
        row = self._connection.execute(_SQL["job"], (job_id, attempts)).fetchone()
        return _job(row) if row else None

    def jobs(
        self,
        owner: str,
        status: JobStatus | None,
        model: str | None,
        before: str | None,
        limit: int,
        created: Span = ALWAYS,
        *,
        texts: bool = True,
    ) -> JobPage:
        """Returns a page of the owner's jobs, the newest first."""
        first, end = _ids_in(created)
        values = (owner, status, model, first, min(before or _AFTER_ALL, end))
        if status and model:
            job_ids, next_before = self._scan(values, limit)
        else:
            name = "page_status" if status else "page_model" if model else "page_all"
            rows = self._connection.execute(_SQL[name], (*values, limit + 1)).fetchall()
            job_ids = [job_id for (job_id,) in rows[:limit]]
            next_before = job_ids[-1] if len(rows) > limit else None
        records: list[JobRecord] = []
        size = 0
        for job_id in job_ids:
            record = self.job(job_id) if texts else self._summary(job_id)
            # An id tells the time to a millisecond.
            if record is None or not created.has(record.created_us):
                continue
            size += _told(record)
            if size > sizes.PAGE_BYTES and records:
                next_before = records[-1].job_id
                break
            records.append(record)
        return JobPage(records=tuple(records), next_before=next_before)

    def _summary(self, job_id: str) -> JobRecord | None:
        row = self._connection.execute(_SQL["summary"], (job_id,)).fetchone()
        return _job(row) if row else None

    def _scan(
        self, values: tuple[str, JobStatus | None, str | None, str, str], limit: int
    ) -> tuple[list[str], str | None]:
        """Returns the jobs found among the next ones in an index, and where to go on.

        An index on both would be rewritten at every change of status. Without it a rare pair takes
        several pages, each of which costs the same.
        """
        by = "scan_by_model" if values[1] is JobStatus.COMPLETED else "scan_by_status"
        rows = self._connection.execute(_SQL[by], (*values, _SCAN)).fetchall()
        found: list[str] = []
        for place, (job_id, matches) in enumerate(rows, start=1):
            if not matches:
                continue
            found.append(job_id)
            if len(found) == limit:
                return found, job_id if place < len(rows) or len(rows) == _SCAN else None
        return found, rows[-1][0] if len(rows) == _SCAN else None

    def specs(self, job_ids: Sequence[str], most_bytes: int | None) -> dict[str, bytes]:
        """Returns what was submitted, by job id."""
        found: dict[str, bytes] = {}
        size = 0
        with closing(self._connection.execute(_SQL["specs"], (json_rows(job_ids),))) as rows:
            for job_id, spec in rows:
                found[job_id] = spec
                size += len(spec)
                if most_bytes is not None and size >= most_bytes:
                    break
        return found

    def leases(self, job_ids: Sequence[str]) -> dict[str, tuple[JobStatus, str, str]]:
        """Returns (status, last lease, its miner) by job id."""
        rows = self._connection.execute(_SQL["leases"], (json_rows(job_ids),)).fetchall()
        return {row[0]: (JobStatus(row[1]), row[2], row[3]) for row in rows if row[2]}

    def live(self) -> list[LiveRecord]:
        """Returns every job that is not final, the oldest first."""
        return [_live(row) for row in self._connection.execute(_SQL["live"])]

    def miners(self) -> list[MinerRecord]:
        """Returns every miner."""
        return [
            MinerRecord(
                miner_id=row[0],
                models=tuple(orjson.loads(row[1])),
                gpu_info=row[2],
                public_key=row[3],
                agent_version=row[4],
                registered_us=row[5],
                owner=row[6],
                drained_us=row[7],
                seen_us=row[8],
                has_proved=bool(row[9]),
            )
            for row in self._connection.execute(_SQL["miners"])
        ]

    def totals(self) -> Totals:
        """Returns the counts of final jobs."""
        rows = {row[0]: row[1:] for row in self._connection.execute(_SQL["totals"])}
        return Totals(
            completed=rows["completed"][0],
            failed=rows["failed"][0],
            cancelled=rows["cancelled"][0],
            prompt_tokens=rows["completed"][1],
            completion_tokens=rows["completed"][2],
            forgotten=sum(row[3] for row in rows.values()),
        )


def _ids_in(created: Span) -> tuple[str, str]:
    """Returns the first id that a job made then may have, and one that comes after them all."""
    first = "" if created.since_us is None else first_job_id(created.since_us)
    if created.until_us is None:
        return first, _AFTER_ALL
    return first, first_job_id(created.until_us + _MILLISECOND_US)


def _told(record: JobRecord) -> int:
    texts = ((record.result or "").encode(), (record.error_message or "").encode())
    parts = (record.spec, record.details or b"", *texts)
    return sizes.JOB_BYTES + sum(map(sizes.told_bytes, parts))


def _job(row: Sequence[Any]) -> JobRecord:
    return JobRecord(
        job_id=row[0],
        owner=row[1],
        model=row[2],
        status=JobStatus(row[3]),
        created_us=row[4],
        attempt=row[5],
        spec=row[6],
        miner_id=row[7],
        lease_id=row[8],
        started_us=row[9],
        cancel_requested_us=row[10],
        finished_us=row[11],
        result=row[12],
        prompt_tokens=row[13],
        completion_tokens=row[14],
        finish_reason=row[15],
        error_code=row[16],
        error_message=row[17],
        attempts=_attempts(row[18]) if row[18] else (),
        details=row[19],
        has_receipt=bool(row[20]),
    )


def _attempts(rows: str) -> tuple[AttemptRecord, ...]:
    return tuple(
        AttemptRecord(
            attempt=row[0],
            miner_id=row[1],
            started_us=row[2],
            ended_us=row[3],
            outcome=JobStatus(row[4]),
            error_code=row[5],
            error_message=row[6],
        )
        for row in sorted(orjson.loads(rows))
    )


def _live(row: Sequence[Any]) -> LiveRecord:
    *given, is_cancelled, is_abandoned, failed, spec_bytes, vanishes, free_returns, task, asks = row
    failed_miners = tuple(orjson.loads(failed)) if failed else ()
    counts = (spec_bytes, vanishes, free_returns)
    return LiveRecord._make(
        (
            *given,
            bool(is_cancelled),
            bool(is_abandoned),
            failed_miners,
            *counts,
            Task(task) if task else Task.GENERATE,
            Asks.read(asks),
        )
    )

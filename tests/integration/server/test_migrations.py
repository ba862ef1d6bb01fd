"""A database of any older schema comes to the present one with every row it had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aitbc_server.domain.jobs import JobStatus
from aitbc_server.store import migrations, schema
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.job_reads import JobReads
from aitbc_server.store.statements import schema_files

OWNER = "ait1owner"
# A row of each kind of job.
STATUSES = tuple(JobStatus)
FINAL = {"finished_us": 30}
JOBS: Mapping[JobStatus, dict[str, Any]] = {
    JobStatus.PENDING: {},
    JobStatus.RUNNING: {"lease_id": "lease-x-1", "miner_id": "m", "started_us": 20, "attempt": 1},
    JobStatus.COMPLETED: {**FINAL, "attempt": 1, "prompt_tokens": 3, "finish_reason": "stop"},
    JobStatus.FAILED: {**FINAL, "error_code": "X", "error_message": "it broke"},
    JobStatus.CANCELLED: {**FINAL, "cancel_requested_us": 25},
}
# What a table's CHECKs ask of a column; any other value is made by the column's type.
SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "attempts": {"outcome": "completed"},
    "batches": {"status": "completed", "metadata": "{}", "faults": "[]"},
    "deliveries": {"status": "pending", "attempts": "[]"},
    "files": {"purpose": "batch"},
    "idempotency": {"job_ids": '["job-completed"]'},
    "keys": {"role": "client"},
    "miners": {"models": '["m"]'},
    "receipt_batches": {"signature": bytes(64)},
}
# What references a job.
BY_NAME = {"job_id": "job-completed"}
BY_TYPE = {"INTEGER": 1, "REAL": 1.5, "BLOB": bytes(32), "TEXT": "text"}

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def older(count: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    """Returns a database with the first so many migrations."""
    connection = connect(path)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "schema_files", lambda: schema_files()[:count])
        schema.migrate(connection)
    return connection


def tables(connection: sqlite3.Connection) -> list[str]:
    """Returns the names of the tables that migrations made."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 1) <> '_' "
        "AND name NOT LIKE 'sqlite%' ORDER BY name"
    )
    return [name for (name,) in rows]


def fill(connection: sqlite3.Connection) -> None:
    """Gives every table that has no row one of its own, and jobs one of each status."""
    for status in STATUSES:
        job = {"status": status, "owner": OWNER, "model": "m", "job_id": f"job-{status}"}
        job |= {"priority": 0, "max_attempts": 3, "created_us": 10} | JOBS[status]
        insert(connection, "jobs", job)
        for table in ("specs", "results"):
            insert(connection, table, sample(connection, table) | {"job_id": job["job_id"]})
    for table in tables(connection):
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        if not count:
            insert(connection, table, sample(connection, table))


def sample(connection: sqlite3.Connection, table: str) -> dict[str, Any]:
    """Returns a row that is as full as can be."""
    columns = connection.execute(f"PRAGMA table_info({table})")
    row = {name: BY_NAME.get(name, BY_TYPE[kind]) for _, name, kind, *_ in columns}
    return row | dict(SAMPLES.get(table, {}))


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    """Inserts a row; a table with new CHECKs needs its place in SAMPLES."""
    names, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", [*row.values()])


def contents(connection: sqlite3.Connection) -> Rows:
    """Returns every row of every table, by column."""
    found = {}
    for table in tables(connection):
        rows = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in rows.description]
        found[table] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


def shape(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Returns what makes the schema, by name."""
    return list(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name"))


@pytest.mark.parametrize("count", range(1, len(schema_files())), ids=schema_files()[:-1])
def test_an_older_database_keeps_every_row_and_gets_the_present_schema(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    database = older(count, path, monkeypatch)
    fill(database)
    before = contents(database)
    database.close()
    assert all(before.values())

    after = connect(path)
    schema.migrate(after)
    reads = JobReads(after)
    page = reads.jobs(OWNER, None, None, None, 100)
    assert {record.status for record in page.records} == set(STATUSES)
    assert {record.job_id for record in reads.live()} == {"job-pending", "job-running"}

    fresh = older(len(schema_files()), tmp_path / "fresh.db", monkeypatch)
    assert shape(after) == shape(fresh)
    assert after.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert after.execute("PRAGMA foreign_key_check").fetchall() == []
    migrated = contents(after)
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in migrated[table]]
        assert sorted(map(repr, kept)) == sorted(map(repr, rows)), table
    after.close()
    fresh.close()


def test_a_migration_that_breaks_off_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = older(1, tmp_path / FILE_NAME, monkeypatch)
    fill(database)
    before = contents(database), shape(database)
    with monkeypatch.context() as patch:
        patch.setattr(
            migrations,
            "script",
            lambda file: "CREATE TABLE half (a);\nINSERT INTO nowhere VALUES (1);",
        )
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            schema.migrate(database)
    assert (contents(database), shape(database)) == before
    schema.migrate(database)
    database.close()

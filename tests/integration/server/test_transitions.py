"""The states of a job are the same in the code, in the database and in the documentation."""

from __future__ import annotations

import re
from asyncio import Future
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc_server.domain.jobs import FINAL, TRANSITIONS, JobStatus
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.store.statements import schema_files, script
from tests.factories import begin, completion, ending, new_job, submission

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explanation" / "job-lifecycle.md"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    await store.close()


def documented_arrows() -> set[tuple[str, str]]:
    """Returns the arrows of the diagram; `*` is where it begins and ends."""
    diagram = PAGE.read_text().split("```mermaid")[1].split("```")[0]
    return set(re.findall(r"^\s*\[?([*\w]+)\]? --> \[?([*\w]+)\]?", diagram, re.MULTILINE))


def checked_statuses() -> list[set[str]]:
    """Returns the lists of statuses in the CHECK constraints of the jobs table."""
    schema = "\n".join(script(file) for file in schema_files())
    table = schema.split("CREATE TABLE jobs (")[1].split("STRICT")[0]
    return [
        set(re.findall(r"'(\w+)'", check)) for check in re.findall(r"status IN \(([^)]*)\)", table)
    ]


async def job_in(store: SqliteStore, status: JobStatus) -> str:
    """Returns a new job that is in this status."""
    job = new_job()
    await store.submit(submission(job))
    if status is not JobStatus.PENDING:
        await store.begin([begin(job.job_id)])
    if status is JobStatus.COMPLETED:
        await store.complete([completion(job.job_id)])
    elif status in FINAL:
        await store.end([ending(job.job_id, status)])
    return job.job_id


def writes(store: SqliteStore, attempt: int) -> list[Callable[[str], Future[Any]]]:
    """Returns every write that names a job, for the lease of this attempt and for the next one."""
    return [
        lambda job_id: store.begin([begin(job_id, attempt + 1, "miner-2")]),
        lambda job_id: store.complete([completion(job_id, attempt)]),
        lambda job_id: store.flag_cancels([(job_id, 5, False)]),
        *(
            lambda job_id, to=to, lease=lease: store.end([ending(job_id, to, lease)])
            for to in JobStatus
            for lease in (None, attempt)
        ),
    ]


async def arrows_of_the_store(store: SqliteStore) -> set[tuple[JobStatus, JobStatus]]:
    """Returns every change of status that any write makes, whatever it is asked to do."""
    found = set()
    for start in JobStatus:
        for write in [one for attempt in range(3) for one in writes(store, attempt)]:
            job_id = await job_in(store, start)
            await write(job_id)
            record = await store.job(job_id)
            assert record is not None
            if record.status is not start:
                found.add((start, record.status))
    return found


async def test_code_guards_checks_table_and_diagram_know_the_same_arrows(
    store: SqliteStore,
) -> None:
    arrows = set(TRANSITIONS)
    assert await arrows_of_the_store(store) == arrows
    assert checked_statuses() == [set(JobStatus), set(FINAL)]
    assert documented_arrows() == (
        arrows | {("*", JobStatus.PENDING)} | {(status, "*") for status in FINAL}
    )
    rows = {
        (start, end): cause
        for start, end, cause in re.findall(
            r"^\| (\w+) \| (\w+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE
        )
        if start in set(JobStatus)
    }
    assert rows == TRANSITIONS
    assert not {start for start, _ in arrows} & FINAL
    # What the statements say of themselves.
    said = re.findall(r"^-- ((?:\w+ -> [\w| ]+(?:, )?)+)$", script("job_writes.sql"), re.MULTILINE)
    assert {
        (start, end)
        for part in ", ".join(said).split(", ")
        for start, ends in [part.split(" -> ")]
        for end in ends.split(" | ")
    } == arrows

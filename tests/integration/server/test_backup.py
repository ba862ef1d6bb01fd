"""A backup is whole, of one moment, and comes back as it was."""

from __future__ import annotations

import asyncio
import shutil
import stat
from pathlib import Path

import pytest

from aitbc_server.domain.jobs import JobStatus
from aitbc_server.ledger.keys import DIRECTORY
from aitbc_server.store.backup import BackupError, back_up, restore
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.directory import FILE_NAME, DataInUseError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.schema import NewerSchemaError
from aitbc_server.store.sqlite import SqliteStore
from tests.factories import begin, completion, new_job, submission


async def _filled(directory: Path, jobs: int = 3) -> list[str]:
    """Leaves a database of completed jobs; returns their ids."""
    store = SqliteStore(directory)
    made = [new_job(spec=b"spec") for _ in range(jobs)]
    await store.submit(submission(*made))
    job_ids = [job.job_id for job in made]
    await store.begin([begin(job_id) for job_id in job_ids])
    await store.complete([completion(job_id, result=job_id) for job_id in job_ids])
    await store.close()
    return job_ids


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def _results(directory: Path, job_ids: list[str]) -> list[str | None]:
    store = SqliteStore(directory)
    try:
        records = [await store.job(job_id) for job_id in job_ids]
        return [record.result if record else None for record in records]
    finally:
        await store.close()


async def test_a_backup_comes_back_as_it_was(tmp_path: Path) -> None:
    job_ids = await _filled(tmp_path / "data")
    size = back_up(tmp_path / "data", tmp_path / "copy")
    assert size == (tmp_path / "copy").stat().st_size
    assert restore(tmp_path / "copy", tmp_path / "other", replace=False) is None
    assert await _results(tmp_path / "other", job_ids) == job_ids
    assert _names(tmp_path) == ["copy", "data", "other"]


async def test_only_its_owner_reads_a_backup(tmp_path: Path) -> None:
    await _filled(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "other", replace=False)
    keys = (tmp_path / "other" / DIRECTORY).iterdir()
    for file in (tmp_path / "copy", tmp_path / "other" / FILE_NAME, *keys):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # The keys that sign are taken out of the database, also out of what is free of it.
    assert b"PRIVATE KEY" in (tmp_path / "copy").read_bytes()
    assert b"PRIVATE KEY" not in (tmp_path / "other" / FILE_NAME).read_bytes()


async def test_a_backup_while_it_serves_is_of_one_moment(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data")
    stop = asyncio.Event()

    async def submit_pairs() -> None:
        while not stop.is_set():
            await store.submit(submission(new_job(), new_job()))

    writing = asyncio.create_task(submit_pairs())
    for number in range(5):
        await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / f"copy-{number}")
    stop.set()
    await writing
    await store.close()
    for number in range(5):
        # No half of a commit, and nothing but the file itself.
        database = connect(tmp_path / f"copy-{number}", read_only=True)
        jobs, specs = database.execute(
            "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM specs)"
        ).fetchone()
        assert jobs == specs
        assert jobs % 2 == 0
        database.close()


async def test_a_killed_coordinators_last_commits_are_in_the_backup(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data")
    job = new_job()
    await store.submit(submission(job))
    # As SIGKILL leaves it: with a log that was never copied back.
    shutil.copytree(tmp_path / "data" / DIRECTORY, tmp_path / "killed" / DIRECTORY)
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        shutil.copy(tmp_path / "data" / name, tmp_path / "killed" / name)
    await store.close()
    back_up(tmp_path / "killed", tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "other", replace=False)
    again = SqliteStore(tmp_path / "other")
    record = await again.job(job.job_id)
    await again.close()
    assert record is not None
    assert record.status is JobStatus.PENDING


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    job_ids = await _filled(tmp_path / "data")
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(BackupError, match="copy exists"):
        back_up(tmp_path / "data", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"
    back_up(tmp_path / "data", tmp_path / "good")
    with pytest.raises(BackupError, match="--replace"):
        restore(tmp_path / "good", tmp_path / "data", replace=False)
    assert await _results(tmp_path / "data", job_ids) == job_ids


async def test_a_replaced_database_is_kept(tmp_path: Path) -> None:
    old = await _filled(tmp_path / "data")
    new = await _filled(tmp_path / "new")
    back_up(tmp_path / "new", tmp_path / "copy")
    kept = restore(tmp_path / "copy", tmp_path / "data", replace=True)
    assert kept is not None
    assert await _results(tmp_path / "data", new) == new
    with pytest.raises(BackupError, match="earlier restore"):
        restore(tmp_path / "copy", tmp_path / "data", replace=True)
    (tmp_path / "before").mkdir()
    kept.rename(tmp_path / "before" / FILE_NAME)
    (tmp_path / "data" / f"{DIRECTORY}.replaced").rename(tmp_path / "before" / DIRECTORY)
    assert await _results(tmp_path / "before", old) == old


async def test_a_served_directory_is_not_restored(tmp_path: Path) -> None:
    await _filled(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "copy")
    store = SqliteStore(tmp_path / "data")
    with pytest.raises(DataInUseError, match="stop it"):
        restore(tmp_path / "copy", tmp_path / "data", replace=True)
    await store.close()


async def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    await _filled(tmp_path / "data")
    (tmp_path / "text").write_text("something else, long enough to be looked at as a header" * 99)
    with pytest.raises(UnusableDatabaseError, match="not a database"):
        restore(tmp_path / "text", tmp_path / "other", replace=False)
    sqlite3.connect(tmp_path / "foreign").execute("CREATE TABLE t (a)").connection.close()
    with pytest.raises(BackupError, match="no database of a coordinator"):
        restore(tmp_path / "foreign", tmp_path / "other", replace=False)
    for missing in (tmp_path / "nothing", tmp_path / "data"):
        with pytest.raises(BackupError, match="no file"):
            restore(missing, tmp_path / "other", replace=False)
    with pytest.raises(BackupError, match="--data"):
        back_up(tmp_path / "nowhere", tmp_path / "copy")
    with pytest.raises(BackupError, match="no directory"):
        back_up(tmp_path / "data", tmp_path / "nowhere" / "copy")
    assert not (tmp_path / "other" / FILE_NAME).exists()


async def test_a_damaged_database_gives_no_backup(tmp_path: Path) -> None:
    await _filled(tmp_path / "data", jobs=500)
    file = tmp_path / "data" / FILE_NAME
    pages = bytearray(file.read_bytes())
    pages[len(pages) // 2 : len(pages) // 2 + 8192] = b"\xff" * 8192
    file.write_bytes(pages)
    with pytest.raises((BackupError, UnusableDatabaseError), match="damaged"):
        back_up(tmp_path / "data", tmp_path / "copy")
    assert _names(tmp_path) == ["data"]


async def test_a_newer_backup_is_refused(tmp_path: Path) -> None:
    await _filled(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "copy")
    database = sqlite3.connect(tmp_path / "copy")
    database.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('aitbc', 'schema_9999.sql', '')"
    )
    database.commit()
    database.close()
    with pytest.raises(NewerSchemaError, match="newer"):
        restore(tmp_path / "copy", tmp_path / "other", replace=False)


async def test_what_a_cut_off_attempt_left_is_named(tmp_path: Path) -> None:
    await _filled(tmp_path / "data")
    (tmp_path / "copy.partial").touch()
    with pytest.raises(BackupError, match=r"copy\.partial is left"):
        back_up(tmp_path / "data", tmp_path / "copy")

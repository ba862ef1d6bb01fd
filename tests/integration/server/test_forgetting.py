"""What is forgotten is gone from the store and from its files; what is to stay stays."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aitbc_server.cli import cli
from aitbc_server.domain.addresses import address_of
from aitbc_server.domain.errors import IdempotencyKeyReused
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import JobStatus, NewJob, Totals
from aitbc_server.ledger.audit import audit
from aitbc_server.store import forgetting
from aitbc_server.store.backup import back_up, restore
from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.ledger_file import open_ledger
from aitbc_server.store.ledger_reads import LedgerReads
from aitbc_server.store.sqlite import SqliteStore
from tests.factories import START_US, begin, completion, ending, new_job, submission

# After everything that the factories make.
LATER_US = 10**16
HERS = address_of("key:hers")
# Rows of these are about single jobs.
TABLES = ("jobs", "specs", "results", "attempts", "idempotency")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    await store.close()


async def completed(store: SqliteStore, *jobs: NewJob, request_id: str | None = None) -> list[str]:
    """Stores jobs and completes them after a lost lease; returns their ids."""
    jobs = jobs or (new_job(),)
    await store.submit(submission(*jobs, request_id=request_id, fingerprint=b"f" * 32))
    ids = [job.job_id for job in jobs]
    await store.begin([begin(job_id) for job_id in ids])
    await store.end([ending(job_id, JobStatus.PENDING) for job_id in ids])
    await store.begin([begin(job_id, 2) for job_id in ids])
    await store.complete([completion(job_id, 2, result=f"result of {job_id}") for job_id in ids])
    return ids


def rows(directory: Path) -> dict[str, int]:
    """Returns how many rows each table has."""
    connection = connect(directory / FILE_NAME, read_only=True)
    counts = {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
    }
    connection.close()
    return counts


async def test_a_forgotten_job_leaves_its_receipt_and_its_counts(
    store: SqliteStore, tmp_path: Path
) -> None:
    kept, gone = [(await completed(store, request_id=name))[0] for name in ("a", "b")]
    receipt = await store.ledger.read(lambda reads: reads.receipt(gone))
    assert receipt is not None
    assert receipt.prompt_salt
    assert receipt.result_salt
    before = await store.totals()
    assert await store.forget([gone]) == {gone}
    assert await store.job(gone) is None
    assert await store.job(kept, attempts=True) is not None
    assert [r.job_id for r in (await store.jobs(new_job().owner, limit=9)).records] == [kept]
    assert rows(tmp_path) == dict.fromkeys(TABLES, 1) | {"attempts": 2}
    after = await store.ledger.read(lambda reads: reads.receipt(gone))
    assert after is not None
    assert (after.body, after.leaf_hash, after.leaf_index) == (
        *(receipt.body, receipt.leaf_hash, receipt.leaf_index),
    )
    assert (after.prompt_salt, after.result_salt) == (None, None)
    assert await store.ledger.read(LedgerReads.size) == 2
    assert before == Totals(completed=2, prompt_tokens=6, completion_tokens=10)
    totals = await store.totals()
    assert totals == Totals(completed=2, prompt_tokens=6, completion_tokens=10, forgotten=1)


async def test_only_final_jobs_are_forgotten_and_once(store: SqliteStore) -> None:
    pending, running = new_job(), new_job()
    for job in (pending, running):
        await store.submit(submission(job))
    await store.begin([begin(running.job_id)])
    failed, cancelled = new_job(), new_job()
    for job, status in ((failed, JobStatus.FAILED), (cancelled, JobStatus.CANCELLED)):
        await store.submit(submission(job))
        await store.end([ending(job.job_id, status, None)])
    asked = [pending.job_id, running.job_id, failed.job_id, cancelled.job_id, "job-x"]
    assert await store.forget(asked) == {failed.job_id, cancelled.job_id}
    assert await store.forget(asked) == frozenset()
    assert [live.job_id for live in await store.live()] == [pending.job_id, running.job_id]
    assert (await store.totals()).forgotten == 2


async def test_a_lease_on_a_forgotten_job_is_lost(store: SqliteStore) -> None:
    (job_id,) = await completed(store)
    late = completion(job_id, 2)
    assert job_of_lease(late.lease_id) == job_id
    await store.forget([job_id])
    assert await store.complete([late]) == frozenset()
    assert await store.end([ending(job_id, JobStatus.FAILED, 2)]) == frozenset()
    assert await store.leases([job_id]) == {}


async def test_a_request_id_is_free_when_its_job_is_forgotten(store: SqliteStore) -> None:
    (first,) = await completed(store, request_id="r")
    again = submission(new_job(), request_id="r", fingerprint=b"f" * 32)
    assert (await store.submit(again)).jobs[0][0] == first
    await store.forget([first])
    made = await store.submit(again)
    assert made.is_new
    assert made.jobs[0][0] != first


async def test_a_batch_of_which_some_jobs_are_forgotten_is_never_made_twice(
    store: SqliteStore,
) -> None:
    jobs = await completed(store, *(new_job() for _ in range(3)), request_id="batch r")
    again = submission(new_job(), request_id="batch r", fingerprint=b"f" * 32)
    await store.forget(jobs[1:2])
    with pytest.raises(IdempotencyKeyReused, match="no longer kept"):
        await store.submit(again)
    await store.forget(jobs)
    assert (await store.submit(again)).is_new


async def test_old_jobs_are_found_by_their_end(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_SCAN", 3)
    # Older than the others, but one ends late, and one not at all.
    late, waiting = new_job(), new_job()
    await store.submit(submission(late, waiting))
    await store.end([ending(late.job_id, JobStatus.FAILED, None, ended_us=LATER_US + 1)])
    spec = b"prompt" * 100
    ids = [(await completed(store, new_job(spec=spec)))[0] for _ in range(7)]
    found: dict[str, int] = {}
    after: str | None = ""
    while after is not None:
        old = await store.old_jobs(LATER_US, after=after)
        assert len(old.sizes) <= 3
        found |= old.sizes
        after = old.next_after
    assert list(found) == ids
    assert set(found.values()) == {len(spec) + len("result of job-") + 26}
    assert (await store.old_jobs(START_US - 10**6)).sizes == {}


def marked(number: int) -> NewJob:
    """Returns a job whose texts are easily found, of many sizes."""
    size = (100, 1_000, 5_000, 70_000)[number % 4]
    spec = b"".join(b"PROMPT%dx" % number for _ in range(size // 8))
    salt = hashlib.sha256(b"salt%d" % number).digest()[:16]
    prompt_hash = hashlib.sha256(salt + spec).digest()
    return new_job(spec=spec, prompt_salt=salt, prompt_hash=prompt_hash, owner=f"o{number % 3}")


async def test_nothing_of_what_was_forgotten_is_in_the_files(
    store: SqliteStore, tmp_path: Path
) -> None:
    jobs = [marked(number) for number in range(60)]
    for number, job in enumerate(jobs):
        name = submission(job, request_id=f"NAME{number}x", fingerprint=b"PRINT%dx" % number)
        await store.submit(name)
        await store.begin([begin(job.job_id)])
        if number % 5:
            text = f"RESULT{number}x" * (1 + 100 * (number % 3))
            await store.complete([completion(job.job_id, result=text)])
        else:
            error = ending(job.job_id, JobStatus.FAILED, error_message=f"ERROR{number}x")
            await store.end([error])
    for job in jobs[7:10]:
        await store.forget([job.job_id])
    await store.forget([job.job_id for job in jobs[:50]])
    assert await store.erase()
    content = (tmp_path / FILE_NAME).read_bytes() + (tmp_path / f"{FILE_NAME}-wal").read_bytes()
    for number, job in enumerate(jobs):
        is_kept = number >= 50
        assert job.prompt_salt is not None
        assert (job.prompt_salt in content) == is_kept
        for mark in ("PROMPT%dx", "NAME%dx", "PRINT%dx", "RESULT%dx" if number % 5 else "ERROR%dx"):
            assert ((mark % number).encode() in content) == is_kept, mark % number


async def test_the_log_is_emptied_when_nobody_reads_what_was_before(
    store: SqliteStore, tmp_path: Path
) -> None:
    (job_id,) = await completed(store)
    reader = connect(tmp_path / FILE_NAME, read_only=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM jobs").fetchone()
    await store.forget([job_id])
    assert not await store.erase()
    reader.execute("COMMIT")
    assert await store.erase()
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size == 0
    reader.close()
    # Commits go on.
    await completed(store)


@pytest.mark.parametrize(
    ("status", "most"),
    # Pages that a cycle may leave: a completed job leaves its receipt.
    [(JobStatus.FAILED, 0), (JobStatus.COMPLETED, 50)],
)
async def test_the_file_stops_growing(
    store: SqliteStore, tmp_path: Path, status: JobStatus, most: int
) -> None:
    def pages() -> int:
        connection = connect(tmp_path / FILE_NAME, read_only=True)
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        connection.close()
        return int(count)

    sizes = []
    for _ in range(8):
        # Their texts alone are 250 pages.
        jobs = [new_job(spec=bytes(20_000)) for _ in range(50)]
        named = (submission(job, request_id=job.job_id, fingerprint=b"f") for job in jobs)
        await asyncio.gather(*(store.submit(one) for one in named))
        await store.begin([begin(job.job_id) for job in jobs])
        if status is JobStatus.COMPLETED:
            await store.complete([completion(job.job_id) for job in jobs])
        else:
            await store.end([ending(job.job_id, status) for job in jobs])
        await store.forget(list((await store.old_jobs(LATER_US)).sizes))
        sizes.append(pages())
    growth = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(growth[2:]) <= most, sizes


async def test_a_copy_knows_what_was_forgotten(store: SqliteStore, tmp_path: Path) -> None:
    ids = await completed(store, *(new_job() for _ in range(3)))
    await store.forget(ids[:2])
    copy, again = tmp_path / "copy.db", tmp_path / "again"
    back_up(tmp_path, copy)
    assert restore(copy, again, replace=False) is None
    with open_ledger(again) as ledger:
        done = audit(ledger)
    assert (done.receipts, done.forgotten) == (3, 2)


async def test_the_jobs_of_one_owner_are_forgotten_beside_a_server(
    store: SqliteStore, tmp_path: Path
) -> None:
    hers = [new_job(owner=HERS, spec=b"her secret" * 500) for _ in range(150)]
    await completed(store, *hers)
    waiting, other = new_job(owner=HERS), new_job()
    for job in (waiting, other):
        await store.submit(submission(job))
    await store.end([ending(other.job_id, JobStatus.FAILED, None)])
    command = ["forget", HERS, "--data", str(tmp_path)]
    kept = await asyncio.to_thread(CliRunner().invoke, cli, command, "n\n")
    assert (kept.exit_code, (await store.totals()).forgotten) == (1, 0)
    assert f"Delete 150 jobs of {HERS}?" in kept.output
    done = await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--yes"])
    assert done.output == f"150 jobs of {HERS} deleted; 1 that have not ended are kept\n"
    assert await store.job(hers[0].job_id) is None
    assert await store.job(waiting.job_id) is not None
    assert await store.job(other.job_id) is not None
    assert (await store.totals()).forgotten == 150
    assert b"her secret" not in (tmp_path / FILE_NAME).read_bytes()
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((HERS[:-1] + "q", "--data", "x"), 2, "has a typing error"),
        ((HERS, "--data", "nowhere"), 1, "does not exist"),
    ],
)
def test_a_mistake_is_named(words: tuple[str, ...], status: int, said: str) -> None:
    done = CliRunner().invoke(cli, ["forget", *words])
    assert done.exit_code == status
    assert said in " ".join(done.output.split())

"""What every Store must do, tried on each that there is."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc_server.domain.caller import ANONYMOUS
from aitbc_server.domain.errors import IdempotencyKeyReused, StorageUnavailable
from aitbc_server.domain.ids import IdSource
from aitbc_server.domain.jobs import JobStatus, Submission, Totals
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.domain.times import Span
from aitbc_server.store import job_reads
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.directory import FILE_NAME, DataInUseError
from aitbc_server.store.schema import NewerSchemaError
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.store.statements import schema_files, script, statements
from tests.factories import START_US, begin, completion, ending, new_job, submission


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    await store.close()


async def _submitted(store: SqliteStore, **fields: object) -> str:
    job = new_job(**fields)
    await store.submit(submission(job))
    return job.job_id


async def _running(store: SqliteStore, **fields: object) -> str:
    job_id = await _submitted(store, **fields)
    assert await store.begin([begin(job_id)]) == {job_id}
    return job_id


async def test_a_submitted_job_is_pending_and_whole(store: SqliteStore) -> None:
    job = new_job(spec=b"\x00prompt\xff", deadline_us=5, max_tokens=7, priority=-3)
    submitted = await store.submit(submission(job))
    assert submitted.jobs == ((job.job_id, JobStatus.PENDING, job.created_us),)
    record = await store.job(job.job_id)
    assert record is not None
    assert (record.status, record.spec, record.attempt) == (JobStatus.PENDING, job.spec, 0)
    [live] = await store.live()
    assert (live.deadline_us, live.max_tokens, live.priority) == (5, 7, -3)


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await _submitted(store)
    modes = {file.name: file.stat().st_mode & 0o077 for file in os.scandir(tmp_path)}
    await store.close()
    assert set(modes) >= {FILE_NAME, f"{FILE_NAME}-wal"}
    assert not any(modes.values())


async def test_an_unknown_job_is_none(store: SqliteStore) -> None:
    assert await store.job("job-x") is None


async def test_the_life_of_a_completed_job(store: SqliteStore) -> None:
    job_id = await _running(store)
    result = "naïve 🙂 \x00 end"
    assert await store.complete([completion(job_id, result=result)]) == {job_id}
    record = await store.job(job_id)
    assert record is not None
    assert (record.status, record.result) == (JobStatus.COMPLETED, result)
    assert (record.prompt_tokens, record.completion_tokens) == (3, 5)
    assert await store.live() == []
    assert await store.totals() == Totals(completed=1, prompt_tokens=3, completion_tokens=5)


async def test_a_lease_begins_once(store: SqliteStore) -> None:
    job_id = await _running(store)
    # A repetition, after a commit whose answer was lost.
    assert await store.begin([begin(job_id)]) == {job_id}
    assert await store.begin([begin(job_id, 1, "miner-2")]) == frozenset()
    assert await store.begin([begin(job_id, 2)]) == frozenset()


async def test_a_stale_lease_changes_nothing(store: SqliteStore) -> None:
    job_id = await _running(store)
    assert await store.end([ending(job_id, JobStatus.PENDING)]) == {job_id}
    assert await store.begin([begin(job_id, 2, "miner-2")]) == {job_id}
    assert await store.complete([completion(job_id, 1)]) == frozenset()
    assert await store.end([ending(job_id, JobStatus.FAILED, 1)]) == frozenset()
    assert await store.complete([completion(job_id, 2, result="second")]) == {job_id}
    assert await store.complete([completion(job_id, 2, result="third")]) == frozenset()
    record = await store.job(job_id)
    assert record is not None
    assert record.result == "second"


async def test_of_a_batch_only_the_stale_ones_are_left_out(store: SqliteStore) -> None:
    jobs = [await _running(store) for _ in range(4)]
    await store.end([ending(jobs[1], JobStatus.CANCELLED)])
    done = await store.complete([completion(job_id, result=job_id) for job_id in jobs])
    assert done == {jobs[0], jobs[2], jobs[3]}
    for job_id in done:
        record = await store.job(job_id)
        assert record is not None
        assert record.result == job_id


async def test_pending_jobs_end_only_while_pending(store: SqliteStore) -> None:
    waiting, running = await _submitted(store), await _running(store)
    ends = [ending(job_id, JobStatus.CANCELLED, None) for job_id in (waiting, running)]
    assert await store.end(ends) == {waiting}


async def test_a_job_that_goes_back_keeps_when_and_by_whom(store: SqliteStore) -> None:
    job_id = await _running(store)
    await store.end([ending(job_id, JobStatus.PENDING, not_before_us=START_US + 9)])
    [live] = await store.live()
    assert (live.lease_id, live.miner_id, live.not_before_us) == (None, "miner-1", START_US + 9)


async def test_a_cancel_is_flagged_once_and_on_running_jobs_only(store: SqliteStore) -> None:
    waiting, running = await _submitted(store), await _running(store)
    await store.flag_cancels([(waiting, 5, True), (running, 6, True)])
    await store.flag_cancels([(running, 7, False)])
    flags = {one.job_id: (one.cancel_requested, one.is_abandoned) for one in await store.live()}
    assert flags == {waiting: (False, False), running: (True, True)}
    record = await store.job(running)
    assert record is not None
    assert record.cancel_requested_us == 6


async def test_a_name_whose_job_nobody_waited_for_is_free(store: SqliteStore) -> None:
    def asked(count: int = 2) -> Submission:
        jobs = [new_job() for _ in range(count)]
        return submission(*jobs, request_id="r", fingerprint=b"1")

    left, anew = asked(), asked()
    await store.submit(left)
    one, two = (job.job_id for job in left.jobs)
    await store.end([ending(one, JobStatus.CANCELLED, None, error_code="CANCELLED")])
    assert not (await store.submit(anew)).is_new
    await store.end([ending(two, JobStatus.CANCELLED, None, error_code="ABANDONED")])
    # Of two that come at once, the second finds what the first made.
    made, found = await asyncio.gather(store.submit(anew), store.submit(asked()))
    assert (made.is_new, found.is_new, found.jobs) == (True, False, made.jobs)
    # Where they are forgotten, the name stays with the new ones.
    assert await store.forget([one, two]) == {one, two}
    again = await store.submit(asked())
    assert (again.is_new, again.jobs) == (False, made.jobs)


async def test_the_same_request_makes_the_same_jobs(store: SqliteStore) -> None:
    first = submission(new_job(), new_job(), request_id="r", fingerprint=b"1")
    again = submission(new_job(), new_job(), request_id="r", fingerprint=b"1")
    made = await store.submit(first)
    found = await store.submit(again)
    assert found.jobs == made.jobs
    assert (made.is_new, found.is_new) == (True, False)
    assert len(await store.live()) == 2


async def test_two_same_requests_at_once_make_one_job(store: SqliteStore) -> None:
    asked = [submission(request_id="r", fingerprint=b"1") for _ in range(5)]
    found = await asyncio.gather(*(store.submit(one) for one in asked))
    assert len({one.jobs for one in found}) == 1
    assert sorted(one.is_new for one in found) == [False] * 4 + [True]


async def test_another_body_under_the_same_name_is_refused(store: SqliteStore) -> None:
    await store.submit(submission(request_id="r", fingerprint=b"1"))
    with pytest.raises(IdempotencyKeyReused):
        await store.submit(submission(request_id="r", fingerprint=b"2"))
    await store.submit(submission(new_job(owner="b"), request_id="r", fingerprint=b"2"))
    assert len(await store.live()) == 2


async def test_pages_are_newest_first_and_complete(store: SqliteStore) -> None:
    mine = [await _submitted(store, model=f"m{n % 2}") for n in range(7)]
    await _submitted(store, owner="other")
    await store.begin([begin(mine[3])])
    assert await _listed(store, limit=100) == (mine[::-1], None)
    assert await _listed(store, limit=7) == (mine[::-1], None)
    assert await _listed(store, limit=3, before=mine[5]) == ([mine[4], mine[3], mine[2]], mine[2])
    assert await _listed(store, limit=9, status=JobStatus.RUNNING) == ([mine[3]], None)
    assert await _listed(store, limit=9, model="m1") == ([mine[5], mine[3], mine[1]], None)


async def test_a_rare_pair_of_status_and_model_takes_pages_of_bounded_cost(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_reads, "_SCAN", 10)
    mine = [await _submitted(store, model="rare" if n % 12 == 0 else "m") for n in range(40)]
    rare = [job_id for n, job_id in enumerate(mine) if n % 12 == 0][::-1]
    await store.begin([begin(job_id) for job_id in rare])
    await store.complete([completion(job_id) for job_id in rare[1:]])
    for status, expected in (
        (JobStatus.PENDING, []),
        (JobStatus.RUNNING, rare[:1]),
        (JobStatus.COMPLETED, rare[1:]),
    ):
        for limit in (1, 2, 9):
            found: list[str] = []
            before: str | None = None
            for _ in range(50):
                page, before = await _listed(
                    store, limit=limit, model="rare", status=status, before=before
                )
                assert len(page) <= limit
                found += page
                if before is None:
                    break
            assert (found, before) == (expected, None)


async def test_a_list_has_jobs_of_a_span_of_time(store: SqliteStore) -> None:
    # Four of one millisecond, and one each of those beside it.
    times = [START_US + step for step in (-1, 0, 1, 500, 999, 1000)]
    ids = IdSource(secrets.token_bytes)
    made = [
        await _submitted(store, job_id=ids.job_id(time), created_us=time, model=f"m{number % 2}")
        for number, time in enumerate(times)
    ]
    whole = Span(START_US - 1, START_US + 1001)
    assert await _listed(store, limit=9, created=whole) == (made[::-1], None)
    for first, end in itertools.combinations(range(6), 2):
        span = Span(times[first], times[end])
        assert await _listed(store, limit=9, created=span) == (made[first:end][::-1], None)
    assert await _listed(store, limit=9, created=Span(times[2])) == (made[2:][::-1], None)
    assert await _listed(store, limit=9, created=Span(None, times[2])) == (made[:2][::-1], None)
    assert await _listed(store, limit=9, created=whole, model="m1") == (made[5::-2], None)
    pair: dict[str, Any] = {"status": JobStatus.PENDING, "model": "m1"}
    assert await _listed(store, limit=9, created=Span(times[2]), **pair) == (made[5:2:-2], None)
    found, before = await _listed(store, limit=2, created=Span(times[1], times[5]))
    while before is not None:
        page, before = await _listed(
            store, limit=2, created=Span(times[1], times[5]), before=before
        )
        found += page
    assert found == made[4:0:-1]
    assert await _listed(store, limit=9, created=Span(times[3], times[3])) == ([], None)


async def test_a_list_without_texts_reads_none(store: SqliteStore) -> None:
    running = await _running(store)
    await store.complete([completion(running, result="x" * 1000)])
    waiting = await _submitted(store, spec=b"y" * 1000)
    page = await store.jobs(ANONYMOUS, limit=9, texts=False)
    whole = await store.jobs(ANONYMOUS, limit=9)
    assert [record.job_id for record in page.records] == [waiting, running]
    for brief, full in zip(page.records, whole.records, strict=True):
        assert (brief.spec, brief.result, brief.details) == (b"", None, None)
        assert brief == replace(full, spec=b"", result=None, details=None)


async def _listed(store: SqliteStore, **query: Any) -> tuple[list[str], str | None]:
    page = await store.jobs(ANONYMOUS, **query)
    return [record.job_id for record in page.records], page.next_before


async def test_miners_keep_when_they_first_came(store: SqliteStore) -> None:
    first = MinerRecord(
        miner_id="a",
        models=("m", "n"),
        gpu_info=b"\x00",
        public_key=b"k",
        agent_version="1",
        registered_us=1,
    )
    await store.register(first)
    await store.register(
        MinerRecord(
            miner_id="a",
            models=("o",),
            gpu_info=None,
            public_key=b"",
            agent_version="2",
            registered_us=2,
        )
    )
    [miner] = await store.miners()
    assert (miner.models, miner.agent_version, miner.registered_us) == (("o",), "2", 1)


async def test_what_was_submitted_comes_in_order_and_in_portions(store: SqliteStore) -> None:
    jobs = [await _submitted(store, spec=bytes(100)) for _ in range(5)]
    asked = [jobs[3], "job-x", jobs[0], jobs[4], jobs[1]]
    assert list(await store.specs(asked)) == [jobs[3], jobs[0], jobs[4], jobs[1]]
    assert list(await store.specs(asked, most_bytes=150)) == [jobs[3], jobs[0]]
    assert list(await store.specs(asked, most_bytes=1)) == [jobs[3]]


async def test_what_was_answered_survives_a_reopening(store: SqliteStore, tmp_path: Path) -> None:
    job_id = await _running(store)
    facts = await store.leases([job_id])
    await store.close()
    again = SqliteStore(tmp_path)
    assert await again.leases([job_id]) == facts
    assert await again.specs([job_id, "job-x"]) == {job_id: b"spec"}
    await again.close()


# SQLite alone


async def test_a_full_disk_refuses_and_recovers(store: SqliteStore) -> None:
    kept = await _submitted(store)
    pages = store._write_connection.execute("PRAGMA page_count").fetchone()[0]
    store._write_connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageUnavailable):
        await store.submit(submission(new_job(spec=b"x" * 1_000_000)))
    store._write_connection.execute("PRAGMA max_page_count = 1000000")
    more = await _submitted(store)
    assert {live.job_id for live in await store.live()} == {kept, more}


async def test_one_bad_operation_does_not_fail_the_others(store: SqliteStore) -> None:
    twice = new_job()
    await store.submit(submission(twice))
    good = new_job()
    bad, made = await asyncio.gather(
        store.submit(submission(twice)), store.submit(submission(good)), return_exceptions=True
    )
    assert isinstance(bad, sqlite3.IntegrityError)
    assert not isinstance(made, BaseException)
    assert {live.job_id for live in await store.live()} == {twice.job_id, good.job_id}


async def test_a_newer_database_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    store._write_connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('aitbc', 'schema_9999.sql', '')"
    )
    await store.close()
    with pytest.raises(NewerSchemaError, match=r"schema_9999\.sql.*newer"):
        SqliteStore(tmp_path)


async def test_a_directory_serves_one_coordinator(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(DataInUseError, match="another coordinator"):
        SqliteStore(tmp_path)
    await store.close()
    await SqliteStore(tmp_path).close()


def test_writes_find_jobs_by_their_key_and_pages_by_an_index() -> None:
    database = sqlite3.connect(":memory:")
    for file in schema_files():
        database.executescript(script(file))
    named = (
        statements("job_writes.sql")
        | statements("forgetting.sql")
        | {
            name: sql
            for name, sql in statements("job_reads.sql").items()
            if name.startswith(("page", "scan"))
        }
    )
    for name, sql in named.items():
        values = ["[]", b"", "", "", "", "", "", "", ""][
            : max(int(n) for n in "123456789" if f"?{n}" in sql)
        ]
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
        assert not scans, name
        if name in statements("job_writes.sql"):
            assert not [s for s in plan if "jobs USING INDEX" in s], name


def test_the_file_is_where_the_documentation_says() -> None:
    assert FILE_NAME == "coordinator.db"


async def test_a_drain_outlasts_a_registration(store: SqliteStore) -> None:
    miner = MinerRecord(
        miner_id="miner-1",
        models=("m",),
        gpu_info=None,
        public_key=b"",
        agent_version="",
        registered_us=1,
    )
    await store.register(miner)
    await store.drain("miner-1", 7)
    await store.register(miner)
    assert [one.drained_us for one in await store.miners()] == [7]
    await store.drain("miner-1", None)
    assert await store.miners() == [miner]


async def test_what_sets_a_job_aside_is_kept_beside_why_its_last_attempt_ended(
    store: SqliteStore,
) -> None:
    job_id = await _running(store)
    await store.end([ending(job_id, JobStatus.PENDING, error_code="LEASE_EXPIRED", vanishes=1)])
    [live] = await store.live()
    assert (live.vanishes, live.free_returns) == (1, 0)
    await store.begin([begin(job_id, 2)])
    await store.end([ending(job_id, JobStatus.PENDING, 2, error_code="NOT_DELIVERED", vanishes=1)])
    [live] = await store.live()
    assert (live.vanishes, live.free_returns) == (1, 1)
    await store.begin([begin(job_id, 3)])
    why = {"job_code": "POISON", "job_message": "two vanished"}
    await store.end([ending(job_id, JobStatus.FAILED, 3, error_code="LEASE_EXPIRED", **why)])
    record = await store.job(job_id, attempts=True)
    assert record is not None
    assert (record.error_code, record.error_message) == ("POISON", "two vanished")
    assert [(a.error_code, a.error_message) for a in record.attempts] == [
        ("LEASE_EXPIRED", "message"),
        ("NOT_DELIVERED", "message"),
        ("LEASE_EXPIRED", "message"),
    ]


async def test_attempts_are_listed_when_they_are_asked_for(store: SqliteStore) -> None:
    job_id = await _running(store)
    await store.end([ending(job_id, JobStatus.PENDING, error_code="NOT_DELIVERED", is_free=True)])
    await store.begin([begin(job_id, 2, "miner-2")])
    await store.end([ending(job_id, JobStatus.PENDING, 2)])
    [live] = await store.live()
    assert (live.failed_miners, live.max_attempts, live.attempt) == (("miner-2",), 4, 2)
    await store.begin([begin(job_id, 3, "miner-3")])
    [live] = await store.live()
    assert live.spec_bytes == len(b"spec")
    await store.complete([completion(job_id, 3)])
    record = await store.job(job_id, attempts=True)
    assert record is not None
    assert [(a.attempt, a.miner_id, a.outcome, a.error_code) for a in record.attempts] == [
        (1, "miner-1", JobStatus.PENDING, "NOT_DELIVERED"),
        (2, "miner-2", JobStatus.PENDING, "CODE"),
        (3, "miner-3", JobStatus.COMPLETED, None),
    ]
    plain = await store.job(job_id)
    assert plain is not None
    assert plain.attempts == ()


async def test_no_statement_of_a_whole_job_is_prepared_twice(store: SqliteStore) -> None:
    async def whole_job() -> None:
        job_id = await _running(store)
        await store.complete([completion(job_id)])
        assert await store.job(job_id, attempts=True)

    prepared: list[str | None] = []

    def note(_action: int, *names: str | None) -> int:
        prepared.append(names[0])
        return 0

    # SQLite asks for each name in a statement when it is prepared, and not when it is run.
    for connection in (store._write_connection, store._read_connection):
        connection.set_authorizer(note)
    await whole_job()
    assert "receipts" in prepared
    prepared.clear()
    await whole_job()
    assert prepared == []


async def test_the_log_stays_small_however_large_the_prompts(
    store: SqliteStore, tmp_path: Path
) -> None:
    for _ in range(48):
        await _submitted(store, spec=os.urandom(2**20))
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size < 24 * 2**20

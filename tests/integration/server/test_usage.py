"""What was used, as reports and budgets count it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2
from aitbc_server.domain.caller import Role
from aitbc_server.domain.prices import PriceTable, UnitType
from aitbc_server.domain.receipts import Work
from aitbc_server.domain.usage import UsageQuery
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.schema import migrate
from aitbc_server.store.statements import statements
from aitbc_server.store.usage import UsageCounts, usage_statement
from tests.factories import START_US
from tests.integration.server.harness import Client, coordinator
from tests.integration.server.test_limits import assert_limited, make_key, rest

PRICES = {"models": {"m": {"tokens": "0.5"}}}


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


async def run_job(
    client: Client, api: httpx.AsyncClient, miner_key: str, miner_id: str = "miner-1"
) -> str:
    """Submits a job, and completes it with 3 tokens of prompt and 5 of result."""
    metadata = (("x-api-key", miner_key),)
    registration = miners_pb2.RegisterMinerRequest(miner_id=miner_id, capabilities=["m"])
    await client.miners.RegisterMiner(registration, metadata=metadata)
    submitted = await api.post("/v1/jobs", json={"prompt": "hello", "model": "m"})
    assert submitted.status_code == 201, submitted.text
    job_id = str(submitted.json()["job_id"])
    claim = jobs_pb2.ClaimJobRequest(job_id=job_id, miner_id=miner_id)
    await client.jobs.ClaimJob(claim, metadata=metadata)
    await client.jobs.CompleteJob(
        jobs_pb2.CompleteJobRequest(
            job_id=job_id,
            miner_id=miner_id,
            result="done",
            usage=jobs_pb2.Usage(prompt_tokens=3, completion_tokens=5),
        ),
        metadata=metadata,
    )
    return job_id


async def usage(api: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await api.get("/v1/usage", params=query)
    assert response.status_code == 200, response.text
    return list(response.json().get("usage", []))


async def test_usage_is_counted_by_key_model_miner_and_day(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps(PRICES))
    settings: dict[str, Any] = {"auth": "required", "ledger_prices": prices}
    data = tmp_path / "data"
    async with coordinator(data, **settings) as client:
        ours, theirs = make_key(data), make_key(data)
        miner, other_miner = make_key(data, Role.MINER), make_key(data, Role.MINER)
        admin = make_key(data, Role.ADMIN)
        async with (
            rest(client, ours) as us,
            rest(client, theirs) as them,
            rest(client, miner) as worker,
            rest(client, other_miner) as idler,
            rest(client, admin) as all_,
        ):
            for _ in range(2):
                await run_job(client, us, miner)
            await run_job(client, them, miner, "miner-2")
            cancelled = (await us.post("/v1/jobs", json={"prompt": "x", "model": "m"})).json()
            await us.post(f"/v1/jobs/{cancelled['job_id']}/cancel")

            waiting, done = await usage(us)
            assert waiting == {
                "day": today(),
                "key_id": ours.split("_")[1],
                "address": waiting["address"],
                "model": "m",
                "submitted": 3,
                "completed": 0,
                "failed": 0,
                "cancelled": 1,
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "price": "0",
            }
            assert (done["miner_id"], done["completed"], done["price"]) == (
                "miner-1",
                2,
                "0.000008",
            )
            assert (done["prompt_tokens"], done["completion_tokens"]) == (6, 10)
            # What is not told apart is added up.
            [total] = await usage(us, group_by=["day"])
            assert {"model", "miner_id", "key_id", "address"}.isdisjoint(total)
            assert (total["submitted"], total["completed"], total["cancelled"]) == (3, 2, 1)

            # Others see their own: a miner without whose it was, an admin everything.
            [_, theirs_done] = await usage(them)
            assert (theirs_done["miner_id"], theirs_done["completed"]) == ("miner-2", 1)
            assert await usage(them, key_id=ours.split("_")[1]) == []
            by_miner = await usage(worker)
            assert [(row["miner_id"], row["completed"]) for row in by_miner] == [
                ("miner-1", 2),
                ("miner-2", 1),
            ]
            assert all({"key_id", "address"}.isdisjoint(row) for row in by_miner)
            assert await usage(idler) == []
            by_key = await usage(all_, group_by=["key"])
            assert {row["key_id"]: row["completed"] for row in by_key} == {
                ours.split("_")[1]: 2,
                theirs.split("_")[1]: 1,
            }
            assert await usage(all_, key_id=ours.split("_")[1]) == [waiting, done]
            assert await usage(all_, miner_id="miner-1", model="m") == [done]
            assert await usage(all_, until="2020-01-01") == []
            tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
            assert len(await usage(us, since=today(), until=tomorrow)) == 2

    # It is on disk.
    async with coordinator(data, **settings) as client, rest(client, ours) as us:
        assert await usage(us) == [waiting, done]


async def test_usage_comes_in_pages_and_as_csv(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        for model in ("a", "=1+1", "c"):
            await client.submit(model=model)
        rows, token = [], ""
        for _ in range(3):
            page = (await api.get("/v1/usage", params={"limit": 1, "page_token": token})).json()
            rows += page["usage"]
            token = page.get("next_page_token", "")
        assert [row["model"] for row in rows] == ["=1+1", "a", "c"]
        assert token == ""
        for asked in (
            await api.get("/v1/usage?format=csv"),
            await api.get("/v1/usage", headers={"Accept": "text/csv;q=0.9, text/plain"}),
        ):
            assert asked.headers["content-type"] == "text/csv; charset=utf-8"
            table = list(csv.DictReader(io.StringIO(asked.text)))
            # A spreadsheet must not take it for a formula.
            assert [row["model"] for row in table] == ["'=1+1", "a", "c"]
            assert [row["submitted"] for row in table] == ["1", "1", "1"]
            assert list(table[0]) == [
                *("day", "key_id", "address", "model", "miner_id", "submitted", "completed"),
                *("failed", "cancelled", "prompt_tokens", "completion_tokens", "price"),
            ]
        plain = await api.get("/v1/usage?format=json", headers={"Accept": "text/csv"})
        assert plain.json()["currency"] == "AITBC"
        for query in (
            "format=xml",
            "since=2026-02-30",
            "until=now",
            "page_token=at--1---",
            "page_token=AAAA",
            "limit=0",
        ):
            refused = await api.get(f"/v1/usage?{query}")
            assert refused.status_code == 400, query
            assert query.partition("=")[0] in refused.json()["detail"]


async def test_a_budget_of_jobs_is_met_exactly_whoever_is_first(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        key = make_key(tmp_path, jobs_per_day=10)
        job = {"prompt": "hello", "model": "m"}
        async with rest(client, key) as api:
            named = {"Idempotency-Key": "one"}
            # A repetition, and what is wrong, use up nothing.
            for _ in range(3):
                assert (await api.post("/v1/jobs", json=job, headers=named)).status_code == 201
            assert (await api.post("/v1/jobs", json={"model": "m"})).status_code == 400
            answers = await asyncio.gather(*(api.post("/v1/jobs", json=job) for _ in range(15)))
            assert sorted(answer.status_code for answer in answers) == [201] * 9 + [429] * 6
            batch = await api.post("/v1/jobs:batch", json={"jobs": [job]})
            assert_limited(batch, "BUDGET_EXHAUSTED", '"jobs-per-day";q=10;w=86400')
            assert int(batch.headers["retry-after"]) <= 86_400
            assert "10 of 10 jobs per day" in batch.json()["detail"]

    # Not even a restart gives more.
    async with coordinator(tmp_path, auth="required") as client, rest(client, key) as api:
        assert (await api.post("/v1/jobs", json=job)).status_code == 429


async def test_a_budget_of_tokens_queues_before_it_refuses(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        # Each job takes 8 tokens: the fourth and fifth come when four fifths are gone.
        rich, poor = make_key(tmp_path), make_key(tmp_path, tokens_per_day=30)
        miner = make_key(tmp_path, Role.MINER)
        async with rest(client, rich) as first, rest(client, poor) as second:
            for _ in range(3):
                await run_job(client, second, miner)
            late = await second.post("/v1/jobs", json={"prompt": "late", "model": "m"})
            assert late.status_code == 201
            # Submitted after it, with the lowest priority, and yet before it.
            await first.post("/v1/jobs", json={"prompt": "x", "model": "m", "priority": -100})
            async with rest(client, miner) as worker:
                waiting = (await worker.get("/v1/jobs/available?miner_id=miner-1")).json()["jobs"]
            assert [job["prompt"] for job in waiting] == ["x", "late"]
            shown = (await second.get(f"/v1/jobs/{late.json()['job_id']}")).json()
            assert shown.get("priority", 0) == 0
            await run_job(client, second, miner)
            refused = await second.post("/v1/jobs", json={"prompt": "no", "model": "m"})
            assert_limited(refused, "BUDGET_EXHAUSTED", '"tokens-per-day";q=30;w=86400')


def test_prices_are_added_up_to_the_last_digit(tmp_path: Path) -> None:
    connection = connect(tmp_path / "coordinator.db")
    migrate(connection)
    rate = 123_456_789_012_345  # in 10^-12 for a million: far more than an integer of SQLite holds
    prices = PriceTable(models={"m": {UnitType.TOKENS: rate}})
    counts = UsageCounts(connection, prices)
    works = [_work(tokens) for tokens in (7, 999_999_937, 123_456_789)]
    for work in works:
        counts.completed([work])
    counts.completed(works)
    tokens = 2 * sum(work.completion_tokens or 0 for work in works)
    assert _price(connection) == tokens * rate


def _work(tokens: int) -> Work:
    return Work(
        job_id="job-1",
        client="ait1x",
        model="m",
        miner_id="miner-1",
        attempt=1,
        started_us=START_US,
        completed_us=START_US,
        prompt_tokens=None,
        completion_tokens=tokens,
        characters=1,
        prompt_hash=b"",
        result_hash=b"",
        request_hash=b"",
        answer_hash=b"",
        miner_signature=None,
    )


def _price(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT price_whole, price_rest FROM usage").fetchone()
    return int(row[0]) * 10**18 + int(row[1])


@pytest.mark.parametrize("name", list(statements("usage.sql")))
def test_no_statement_of_usage_scans_the_jobs(tmp_path: Path, name: str) -> None:
    connection = connect(tmp_path / "coordinator.db")
    migrate(connection)
    sql = statements("usage.sql")[name]
    values = ["[]", *[0] * 14][: max(n for n in range(1, 16) if f"?{n}" in sql)]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert not [step for step in plan if step.startswith("SCAN jobs")], plan


@pytest.mark.parametrize(
    ("asked", "found_by"),
    [
        ({"owner": "ait1x"}, "PRIMARY KEY (owner=? AND day>? AND day<?)"),
        ({"owner": "ait1x", "model": "m"}, "PRIMARY KEY (owner=? AND day>? AND day<?)"),
        ({"miner_id": "m"}, "INDEX usage_by_miner (miner_id=? AND day>? AND day<?)"),
        ({"miner_owner": "ait1x"}, "INDEX usage_by_miner (miner_id=? AND day>? AND day<?)"),
        ({}, "INDEX usage_by_day (day>? AND day<?)"),
    ],
)
def test_usage_is_found_by_an_index_however_many_have_some(
    tmp_path: Path, asked: dict[str, str], found_by: str
) -> None:
    connection = connect(tmp_path / "coordinator.db")
    migrate(connection)
    query = UsageQuery(first_day=0, last_day=1, limit=1, **asked)  # type: ignore[arg-type]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {usage_statement(query)}", [0] * 15)
    steps = [row[3] for row in plan if "usage" in row[3] or "PRIMARY" in row[3]]
    assert any(found_by in step for step in steps), steps

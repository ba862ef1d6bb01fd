"""The states of a job are the same in the code, in the database and in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aitbc_server.domain.jobs import FINAL, TRANSITIONS, JobStatus, claim_duration_s, retry_delay_s
from aitbc_server.store.statements import script

ROOT = Path(__file__).parents[3]


def test_no_arrow_leaves_a_final_status() -> None:
    assert not {start for start, _ in TRANSITIONS} & FINAL


def test_the_database_knows_the_same_statuses() -> None:
    schema = script("schema_0001.sql")
    checks = re.findall(r"status IN \(([^)]*)\)", schema)
    statuses = [set(re.findall(r"'(\w+)'", check)) for check in checks]
    assert set(JobStatus) in statuses
    assert FINAL in statuses


def test_the_diagram_has_the_same_arrows() -> None:
    page = (ROOT / "docs" / "explanation" / "job-lifecycle.md").read_text()
    diagram = page.split("```mermaid")[1].split("```")[0]
    arrows = set(re.findall(r"^\s*(\w+) --> (\w+)", diagram, re.MULTILINE))
    assert arrows == {(start.value, end.value) for start, end in TRANSITIONS}


def test_retries_wait_longer_each_time_up_to_a_bound() -> None:
    delays = [retry_delay_s(attempt) for attempt in range(1, 11)]
    assert delays == sorted(delays)
    assert delays[0] < 1
    assert delays[-1] == 30


@pytest.mark.parametrize(("asked", "seconds"), [(None, 572), (256, 188), (10_000, 5060)])
def test_a_claim_lasts_as_the_work_asks(asked: int | None, seconds: float) -> None:
    assert claim_duration_s(asked) == seconds

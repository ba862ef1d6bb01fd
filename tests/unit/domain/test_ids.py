"""Ids sort by time, never repeat, and are told from other text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.ids import IdSource, is_job_id, job_of_lease, lease_id_of


@given(st.lists(st.integers(min_value=0, max_value=2**50), min_size=2, max_size=50))
def test_ids_only_go_up_whatever_the_clock_does(times: list[int]) -> None:
    source = IdSource(random.Random(1).randbytes)
    ids = [source.job_id(time) for time in times]
    assert ids == sorted(set(ids))
    assert all(map(is_job_id, ids))


def test_an_id_holds_its_time() -> None:
    source = IdSource(bytes)
    # The example of the ULID specification.
    assert source.ulid(1469918176385 * 1000)[:10].upper() == "01ARYZ6S41"


@given(st.integers(min_value=1, max_value=99))
def test_a_lease_leads_back_to_its_job(attempt: int) -> None:
    job_id = IdSource(random.Random(2).randbytes).job_id(1)
    assert job_of_lease(lease_id_of(job_id, attempt)) == job_id


@pytest.mark.parametrize(
    "text", ["", "job-", "job-abc123", "lease-1", "job-" + "z" * 26, "JOB-" + "0" * 26, "job-\x00"]
)
def test_other_text_is_no_id(text: str) -> None:
    assert not is_job_id(text)
    assert job_of_lease(text) is None

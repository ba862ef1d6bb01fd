from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2, miners_pb2, work_pb2
from aitbc_server.web import formats

MOMENT = Timestamp(seconds=1_769_266_805, nanos=500_000_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (1.55, "1.6 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_400, "1 d"),
        (400 * 86_400, "400 d"),
        (-3, "0 s"),
    ],
)
def test_duration_is_told_in_its_greatest_unit(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("later_s", "text"),
    [(-5, "just now"), (0.4, "just now"), (3.2, "3 s ago"), (61, "1 min ago")],
)
def test_time_is_told_by_how_long_ago_it_was(later_s: float, text: str) -> None:
    assert formats.ago(MOMENT, formats.seconds_of(MOMENT) + later_s) == text


def test_time_is_told_in_full_in_utc() -> None:
    assert formats.absolute(MOMENT) == "2026-01-24 15:00:05 UTC"
    assert formats.clock(MOMENT) == "15:00 UTC"
    assert formats.machine_readable(MOMENT) == "2026-01-24T15:00:05Z"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1234, "1.23k"), (999_600, "1M"), (45_600_000, "45.6M")],
)
def test_large_numbers_are_short(value: float, text: str) -> None:
    assert formats.compact(value) == text


def test_numbers_have_commas() -> None:
    assert formats.number(1_234_567) == "1,234,567"


def test_long_hashes_keep_their_ends() -> None:
    assert formats.short("0123456789abcdef" * 4) == "01234567…cdef"
    assert formats.short("miner-1") == "miner-1"


def test_enum_values_are_named_as_in_the_rest_api() -> None:
    miner = miners_pb2.Miner(status=miners_pb2.MINER_STATUS_DRAINING)
    assert formats.value_name(miner, "status") == "draining"
    info = work_pb2.ModelInfo(tasks=[jobs_pb2.JOB_TASK_EMBED, jobs_pb2.JOB_TASK_SCORE])
    assert formats.value_names(info, "tasks") == ["embed", "score"]

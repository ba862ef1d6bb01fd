from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.rest.times import (
    format_duration,
    format_timestamp,
    parse_duration,
    parse_timestamp,
)

MOMENT = int(datetime(2026, 1, 24, 15, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("2026-01-24T15:00:00Z", MOMENT, 0),
        ("2026-01-24t15:00:00z", MOMENT, 0),
        ("2026-01-24 15:00:00Z", MOMENT, 0),
        ("2026-01-24T15:00:00", MOMENT, 0),
        ("2026-01-24T15:00:00.5", MOMENT, 500_000_000),
        ("2026-01-24T15:00:00.123456789Z", MOMENT, 123_456_789),
        ("2026-01-24T17:30:00+02:30", MOMENT, 0),
        ("2026-01-24T07:00:00-08:00", MOMENT, 0),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999),
        ("1969-12-31T23:59:59.25Z", -1, 250_000_000),
    ],
)
def test_a_time_is_read(text: str, seconds: int, nanos: int) -> None:
    assert parse_timestamp(text) == {"seconds": seconds, "nanos": nanos}


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-01-24", "2026-01-24T15:00Z", "2026-02-30T15:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-24T25:00:00Z", "2026-01-24T15:00:00+24:00", "2026-01-24T15:00:00.Z",
        "2026-01-24T15:00:00.1234567890Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00", "2026-01-24T15:00:00Z\n", "\uff12026-01-24T15:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_timestamp(text)


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (MOMENT, 0, "2026-01-24T15:00:00Z"),
        (MOMENT, 999, "2026-01-24T15:00:00Z"),
        (MOMENT, 120_000_000, "2026-01-24T15:00:00.120000Z"),
        (MOMENT, 123_456_789, "2026-01-24T15:00:00.123456Z"),
        (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_written(seconds: int, nanos: int, text: str) -> None:
    assert format_timestamp(Timestamp(seconds=seconds, nanos=nanos)) == text


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999))
def test_a_time_to_the_microsecond_survives(seconds: int, micros: int) -> None:
    timestamp = Timestamp(seconds=seconds, nanos=micros * 1000)

    assert Timestamp(**parse_timestamp(format_timestamp(timestamp))) == timestamp


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (15, 0, "15s"),
        (0, 0, "0s"),
        (1, 500_000_000, "1.500s"),
        (-1, -500_000_000, "-1.500s"),
        (0, -1_000, "-0.000001s"),
        (3, 1, "3.000000001s"),
    ],
)
def test_a_duration_is_written_and_read(seconds: int, nanos: int, text: str) -> None:
    assert format_duration(Duration(seconds=seconds, nanos=nanos)) == text
    assert parse_duration(text) == {"seconds": seconds, "nanos": nanos}


@pytest.mark.parametrize("text", ["", "15", "s", "1.s", "1m", "315576000000.1s", "9999999999999s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration(text)

from __future__ import annotations

import pytest

from aitbc_server.rest.accept import asks_for
from aitbc_server.rest.stream import EVENTS, LINES, Dialect, dialect_for


@pytest.mark.parametrize(
    "accept",
    [
        "text/csv",
        "Text/CSV; Charset=utf-8",
        "text/csv, application/json",
        "application/json;q=0.5, text/csv",
        "text/csv;q=0.1, application/json;q=0",
        "text/csv;q=0.9, text/plain",
        "text/csv, */*",
        "text/csv ; q = 0.5, */*;q=0.1",
        "application/json;q=0.2, text/csv;q=0.5, */*",
        "text/csv;header=absent;q=0, text/csv",
    ],
)
def test_a_type_that_is_wanted_at_least_as_much_is_asked_for(accept: str) -> None:
    assert asks_for(accept, ("text/csv",), over=("application/json",))


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/*",
        "application/json",
        "text/csv;q=0",
        "text/csv;q=0.000, */*",
        "text/csv; q=0",
        "TEXT/CSV;Q=0",
        "text/csv;q=",
        "text/csv;q=nan",
        "text/csv;q=inf",
        "text/csv;q=1.5",
        "text/csv;q=-1",
        "text/csv;q=0.5, application/json",
        "text/csv;q=0.5, application/*",
        "text/csv;q=0.5, */*;q=0.6",
        "text/csvx",
        ";;,,=;q",
    ],
)
def test_a_type_that_is_refused_or_wanted_less_is_not_asked_for(accept: str) -> None:
    assert not asks_for(accept, ("text/csv",), over=("application/json",))


@pytest.mark.parametrize(
    ("accept", "dialect"),
    [
        ("", EVENTS),
        ("*/*", EVENTS),
        ("text/event-stream", EVENTS),
        ("application/x-ndjson;q=0", EVENTS),
        ("application/x-ndjson;q=0.5, text/event-stream", EVENTS),
        ("application/x-ndjson", LINES),
        ("Application/NDJSON", LINES),
        ("application/jsonl, text/event-stream;q=0.9", LINES),
        ("text/event-stream;q=0, application/x-ndjson;q=0.1", LINES),
    ],
)
def test_a_stream_is_written_as_its_reader_asks(accept: str, dialect: Dialect) -> None:
    assert dialect_for(accept) is dialect

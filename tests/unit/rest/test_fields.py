from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.fields import (
    header_fields,
    set_from_headers,
    set_from_path,
    set_from_query,
    text_fields,
)
from tests.unit.rest.schema import THING, Thing

FIELDS = text_fields(THING)


def query(text: bytes) -> dict[str, Any]:
    values: dict[str, Any] = {}
    set_from_query(values, FIELDS, text)
    Thing(**values)  # what is read must be what a message takes
    return values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"text_value=a", {"text_value": "a"}),
        (b"textValue=a", {"text_value": "a"}),
        (b"text_value=a+b%26%C3%A9", {"text_value": "a b&é"}),
        (b"text_value=", {"text_value": ""}),
        (b"text_value", {"text_value": ""}),
        (b"&&flag_value=TRUE&", {"flag_value": True}),
        (b"flag_value=0", {"flag_value": False}),
        (b"i32_value=-7&u32_value=7", {"i32_value": -7, "u32_value": 7}),
        (b"i64_value=9223372036854775807", {"i64_value": 2**63 - 1}),
        (b"f64_value=1e3", {"f64_value": 1000.0}),
        (b"f64_value=30", {"f64_value": 30.0}),
        (b"i32_list=1&i32_list=2&i32List=3", {"i32_list": [1, 2, 3]}),
        (b"color=deep_blue", {"color": 1}),
        (b"color=", {}),
        (b"i32_value=", {}),
        (b"at_value=1970-01-01T00:00:01Z", {"at_value": {"seconds": 1, "nanos": 0}}),
        (b"lasting_value=2s", {"lasting_value": {"seconds": 2, "nanos": 0}}),
        (b"child.text_value=a&child.i32Value=1", {"child": {"text_value": "a", "i32_value": 1}}),
    ],
)
def test_a_query_fills_fields(text: bytes, values: dict[str, Any]) -> None:
    assert query(text) == values


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (b"nothing=1", "nothing", "unknown query parameter"),
        (b"child=1", "child", "unknown query parameter"),
        (b"child.child.text_value=1", "child.child.text_value", "unknown query parameter"),
        (b"children.text_value=1", "children.text_value", "unknown query parameter"),
        (b"free_value=1", "free_value", "unknown query parameter"),
        (b"text_value=a&textValue=b", "text_value", "more than once"),
        (b"i32_value=x", "i32_value", "must be an integer"),
        (b"i32_value=1_0", "i32_value", "must be an integer"),
        (b"i32_value=2147483648", "i32_value", "must be an integer from"),
        (b"i32_value=%D9%A3", "i32_value", "must be an integer"),
        (b"f64_value=nan", "f64_value", "must be a number"),
        (b"f64_value=inf", "f64_value", "must be a number"),
        (b"f64_value=1e999", "f64_value", "must be a number"),
        (b"i32_value=" + b"9" * 10_000, "i32_value", "must be an integer"),
        (b"flag_value=yes", "flag_value", "must be true or false"),
        (b"color=green", "color", "must be one of"),
        (b"at_value=now", "at_value", "must be a time"),
        (b"text_value=%zz", "query", "percent-encoded"),
        (b"text_value=%ff", "query", "percent-encoded"),
        (b"text_value=\xff", "query", "percent-encoded"),
    ],
)
def test_a_wrong_query_is_refused_by_name(text: bytes, field: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        query(text)

    assert raised.value.field == field
    assert problem in raised.value.problem


@given(st.binary(max_size=60))
def test_any_query_is_read_or_refused(text: bytes) -> None:
    try:
        query(b"text_value=" + text)
    except InvalidArgument:
        pass


def test_the_path_fills_nested_fields() -> None:
    values: dict[str, Any] = {}

    set_from_path(values, [FIELDS["child.text_value"], FIELDS["i32_value"]], ["a", "7"])

    assert values == {"child": {"text_value": "a"}, "i32_value": 7}


def test_a_body_that_repeats_the_path_is_accepted_and_one_that_differs_is_not() -> None:
    set_from_path({"text_value": "a"}, [FIELDS["text_value"]], ["a"])
    with pytest.raises(InvalidArgument, match=r"text_value: differs from the one in the path"):
        set_from_path({"text_value": "b"}, [FIELDS["text_value"]], ["a"])


def test_a_malformed_path_value_names_its_field() -> None:
    with pytest.raises(InvalidArgument, match=r"i32_value: must be an integer"):
        set_from_path({}, [FIELDS["i32_value"]], ["x"])


def test_a_header_fills_its_field_and_is_newer_than_a_query() -> None:
    fields = header_fields(jobs_pb2.SubmitJobRequest.DESCRIPTOR)
    absent: dict[str, Any] = {}
    given = {"request_id": "from the query, which a client that comes back repeats"}

    set_from_headers(absent, fields, {"idempotency-key": "k"}, may_differ=False)
    set_from_headers(given, fields, {"idempotency-key": "k"}, may_differ=True)

    assert absent == {"request_id": "k"}
    assert given == {"request_id": "k"}


def test_a_header_and_a_body_must_say_the_same() -> None:
    fields = header_fields(jobs_pb2.SubmitJobRequest.DESCRIPTOR)
    set_from_headers({"request_id": "k"}, fields, {"idempotency-key": "k"}, may_differ=False)
    with pytest.raises(InvalidArgument, match="request_id: differs"):
        set_from_headers({"request_id": "k"}, fields, {"idempotency-key": "x"}, may_differ=False)

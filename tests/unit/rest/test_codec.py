from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from aitbc.v1 import jobs_pb2, network_pb2
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.codec import decoder, encoder, response_encoder
from tests.unit.rest.schema import EMPTY, THING, Thing

_decode = decoder(THING)
_encode = encoder(THING)


def read(data: Any) -> Message:
    return Thing(**_decode(data))


def write(message: Message) -> Any:
    return orjson.loads(orjson.dumps(_encode(message)))


def refusal(data: Any) -> tuple[str, str]:
    with pytest.raises(InvalidArgument) as raised:
        read(data)
    return raised.value.field, raised.value.problem


# Documented shapes.


def test_the_documented_submit_is_read() -> None:
    body = (
        b'{"prompt": "Explain quantum computing", "model": "llama3.2",'
        b' "params": { "max_tokens": 256, "temperature": 0.7 }}'
    )

    values = decoder(jobs_pb2.SubmitJobRequest.DESCRIPTOR)(orjson.loads(body))

    assert jobs_pb2.SubmitJobRequest(**values) == jobs_pb2.SubmitJobRequest(
        prompt="Explain quantum computing",
        model="llama3.2",
        params=jobs_pb2.GenerationParams(max_tokens=256, temperature=0.7),
    )


def test_the_documented_job_is_written() -> None:
    job = jobs_pb2.Job(
        job_id="job-abc123",
        status=jobs_pb2.JOB_STATUS_COMPLETED,
        result="Quantum computing is...",
        miner_id="miner-xyz",
        started_at=Timestamp(seconds=1769266801),
        completed_at=Timestamp(seconds=1769266805, nanos=250_000_000),
    )

    assert orjson.dumps(encoder(job.DESCRIPTOR)(job)) == (
        b'{"job_id":"job-abc123","status":"completed","result":"Quantum computing is...",'
        b'"miner_id":"miner-xyz","started_at":"2026-01-24T15:00:01Z",'
        b'"completed_at":"2026-01-24T15:00:05.250000Z"}'
    )


def test_counts_are_numbers_and_zeros_with_presence_are_written() -> None:
    stats = network_pb2.GetStatsResponse(
        jobs=network_pb2.JobCounts(pending=0, completed=2**40), miners=network_pb2.MinerCounts()
    )

    assert encoder(stats.DESCRIPTOR)(stats) == {
        "jobs": {"pending": 0, "completed": 2**40},
        "miners": {},
    }


def test_a_list_response_with_nothing_in_it_has_its_list() -> None:
    assert response_encoder(jobs_pb2.ListJobsResponse.DESCRIPTOR)(jobs_pb2.ListJobsResponse()) == {
        "jobs": []
    }


def test_lists_and_maps_are_there_at_the_top_of_a_response_only() -> None:
    answer = response_encoder(THING)(Thing(children=[{}, {"i32_value": 1}], child={}))

    assert answer == {**EMPTY, "children": [{}, {"i32_value": 1}], "child": {}}
    assert response_encoder(THING)(Thing()) == EMPTY


def test_what_is_in_a_list_or_map_of_a_response_is_written() -> None:
    fields: dict[str, Any] = {"i32_list": [1], "counts": {"a": 2}, "parts": {"b": {}}}

    assert fields.items() <= response_encoder(THING)(Thing(**fields)).items()


# Every kind of field.


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({"text_value": "a", "flag_value": True}, {"text_value": "a", "flag_value": True}),
        ({"textValue": "a"}, {"text_value": "a"}),
        ({"text_value": None, "textValue": "a"}, {"text_value": "a"}),
        ({"i32_value": 256.0}, {"i32_value": 256}),
        ({"i64_value": "-9223372036854775808"}, {"i64_value": -(2**63)}),
        ({"u64_value": 2**64 - 1}, {"u64_value": 2**64 - 1}),
        ({"f64_value": 3}, {"f64_value": 3.0}),
        ({"f32_value": 0.5}, {"f32_value": 0.5}),
        ({"data_value": "_-8"}, {"data_value": b"\xff\xef"}),
        ({"data_value": "/+8="}, {"data_value": b"\xff\xef"}),
        ({"color": "deep_blue"}, {"color": 1}),
        ({"color": "RED"}, {"color": 2}),
        ({"colors": ["PAINT_COLOR_RED"]}, {"colors": [2]}),
        ({"at_value": "1970-01-01T01:00:00+00:00"}, {"at_value": {"seconds": 3600}}),
        ({"lasting_value": "1.5s"}, {"lasting_value": {"seconds": 1, "nanos": 500_000_000}}),
        ({"wrapped_value": 5}, {"wrapped_value": {"value": 5}}),
        ({"child": {"child": {}}}, {"child": {"child": {}}}),
        ({"children": [{"i32_value": 1}, {}]}, {"children": [{"i32_value": 1}, {}]}),
        ({"counts": {"a": 1}}, {"counts": {"a": 1}}),
        ({"parts": {"a": {"flag_value": True}}}, {"parts": {"a": {"flag_value": True}}}),
        ({"maybe_text": ""}, {"maybe_text": ""}),
        ({"left": "x"}, {"left": "x"}),
        ({}, {}),
    ],
)
def test_a_value_is_read(data: Any, fields: dict[str, Any]) -> None:
    assert read(data) == Thing(**fields)


def test_free_form_values_keep_their_shape() -> None:
    free = {"n": 1, "list": [True, None, {"x": 1.5}]}

    assert write(read({"free_value": free})) == {"free_value": free}


@pytest.mark.parametrize(
    ("data", "field", "problem"),
    [
        ([], "", "must be an object"),
        ({"nothing": 1}, "nothing", "unknown field"),
        ({"child": {"text_valu": 1}}, "child.text_valu", "did you mean text_value?"),
        ({"text_value": "a", "textValue": "a"}, "text_value", "given twice"),
        ({"text_value": 1}, "text_value", "must be a string"),
        ({"flag_value": 1}, "flag_value", "must be true or false"),
        ({"flag_value": "true"}, "flag_value", "must be true or false"),
        ({"i32_value": True}, "i32_value", "must be an integer"),
        ({"i32_value": "1"}, "i32_value", "must be an integer"),
        ({"i32_value": 1.5}, "i32_value", "must be an integer"),
        ({"i32_value": 2**31}, "i32_value", "from -2147483648 to 2147483647"),
        ({"u32_value": -1}, "u32_value", "from 0 to"),
        ({"i64_value": 2**63}, "i64_value", "must be an integer from"),
        ({"i64_value": "1.0"}, "i64_value", "must be an integer"),
        ({"f64_value": "1"}, "f64_value", "must be a number"),
        ({"f64_value": True}, "f64_value", "must be a number"),
        ({"f32_value": 1e39}, "f32_value", "must be a number from"),
        ({"data_value": "a"}, "data_value", "Base64"),
        ({"data_value": "é"}, "data_value", "Base64"),
        ({"color": "green"}, "color", "must be one of deep_blue, red"),
        ({"color": "unspecified"}, "color", "must be one of"),
        ({"color": "PAINT_COLOR_UNSPECIFIED"}, "color", "must be one of"),
        ({"color": 1}, "color", "must be one of"),
        ({"colors": ["red", "x"]}, "colors[1]", "must be one of"),
        ({"at_value": 5}, "at_value", "must be a string"),
        ({"at_value": "soon"}, "at_value", "must be a time"),
        ({"lasting_value": "1h"}, "lasting_value", "must be seconds"),
        ({"wrapped_value": "x"}, "wrapped_value", "Int64Value"),
        ({"free_value": [1]}, "free_value", "Struct"),
        ({"child": []}, "child", "must be an object"),
        ({"children": {}}, "children", "must be a list"),
        ({"children": [{}, None]}, "children[1]", "must not be null"),
        ({"children": [{"i32_list": [1, "2"]}]}, "children[0].i32_list[1]", "must be an integer"),
        ({"children": [{"i32_list": [1, True]}]}, "children[0].i32_list[1]", "must be an integer"),
        (
            {"i32_list": [1, 2**31]},
            "i32_list[1]",
            f"must be an integer from {-(2**31)} to {2**31 - 1}",
        ),
        ({"counts": []}, "counts", "must be an object"),
        ({"counts": {"a": None}}, "counts[a]", "must not be null"),
        ({"parts": {"a": {"i32_value": "x"}}}, "parts[a].i32_value", "must be an integer"),
        ({"left": "x", "right": 1}, "right", "cannot be given together with left"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(data: Any, field: str, problem: str) -> None:
    path, told = refusal(data)

    assert path == field
    assert problem in told


@pytest.mark.parametrize(
    ("message", "data", "field", "most"),
    [
        (jobs_pb2.BatchSubmitJobsRequest, {"jobs": [{"no": "job"}] * 1001}, "jobs", 1000),
        (
            jobs_pb2.BatchSubmitJobsRequest,
            {"jobs": [{}, {"messages": [5] * 10_001}]},
            "jobs[1].messages",
            10_000,
        ),
        (
            jobs_pb2.SubmitJobRequest,
            {"metadata": {str(number): number for number in range(17)}},
            "metadata",
            16,
        ),
    ],
)
def test_items_are_counted_before_any_is_read(
    message: type[Message], data: Any, field: str, most: int
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decoder(message.DESCRIPTOR)(data)  # type: ignore[arg-type]  # as above
    assert (caught.value.field, caught.value.problem) == (field, f"must have at most {most} items")


def test_a_very_long_unknown_name_is_not_repeated_whole() -> None:
    field, _ = refusal({"x" * 10_000: 1})

    assert len(field) == 100


def test_an_enum_with_presence_that_is_unspecified_is_absent() -> None:
    assert write(Thing(maybe_color=0)) == {}


def test_an_enum_number_without_a_name_is_written_as_a_number() -> None:
    assert write(Thing(color=77)) == {"color": 77}


# Any message and any JSON.

_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "text_value": st.text(),
    "text_list": st.lists(st.text(), max_size=3),
    "flag_value": st.booleans(),
    "flag_list": st.lists(st.booleans(), max_size=3),
    "data_value": st.binary(),
    "data_list": st.lists(st.binary(), max_size=3),
    "i32_value": st.integers(-(2**31), 2**31 - 1),
    "i32_list": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    "u32_value": st.integers(0, 2**32 - 1),
    "i64_value": st.integers(-(2**63), 2**63 - 1),
    "i64_list": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    "u64_value": st.integers(0, 2**64 - 1),
    "f32_value": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "f64_value": st.floats(allow_nan=False, allow_infinity=False),
    "f64_list": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    "at_value": st.fixed_dictionaries(
        {
            "seconds": st.integers(-62_135_596_800, 253_402_300_799),
            "nanos": st.integers(0, 999_999).map(lambda micros: micros * 1000),
        }
    ),
    "lasting_value": st.fixed_dictionaries(
        {"seconds": st.integers(0, 10**9), "nanos": st.integers(0, 999_999_999)}
    ),
    "color": st.integers(1, 2),
    "colors": st.lists(st.integers(1, 2), max_size=3),
    "counts": st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1), max_size=3),
    "wrapped_value": st.builds(dict, value=st.integers(-(2**63), 2**63 - 1)),
    "maybe_text": st.text(),
    "maybe_count": st.integers(-(2**31), 2**31 - 1),
    "right": st.integers(-(2**31), 2**31 - 1),
}
_things = st.recursive(
    st.fixed_dictionaries({}, optional=_LEAVES),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **_LEAVES,
            "child": inner,
            "children": st.lists(inner, max_size=2),
            "parts": st.dictionaries(st.text(), inner, max_size=2),
        },
    ),
    max_leaves=4,
)


@given(_things)
def test_what_is_written_reads_as_the_same_message(fields: dict[str, Any]) -> None:
    message = Thing(**fields)

    assert read(write(message)) == message


_names = st.sampled_from([field.name for field in THING.fields])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | _names, inner),
    max_leaves=10,
)


@given(st.dictionaries(_names, _json))
def test_any_json_is_read_or_refused(data: dict[str, Any]) -> None:
    try:
        read(data)
    except InvalidArgument:
        pass

"""The JSON of Connect is protobuf's own: what its runtime reads and writes is the measure."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc_server.connect.forms import PROTOBUF
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.codec import decoder, encoder
from aitbc_server.rest.openapi.document import packaged_methods
from tests.messages import messages
from tests.unit.rest.schema import THING, Thing

MESSAGES = {
    descriptor.full_name: descriptor
    for method in packaged_methods()
    for descriptor in (method.input_type, method.output_type)
}
_read = decoder(THING, PROTOBUF)
_write = encoder(THING, PROTOBUF)


def written(message: Any) -> Any:
    return orjson.loads(orjson.dumps(_write(message)))


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=6)
@given(data=st.data())
def test_the_runtime_reads_what_is_written_and_is_read_itself(
    name: str, data: st.DataObject
) -> None:
    descriptor: Descriptor = MESSAGES[name]
    message = data.draw(messages(descriptor))
    text = orjson.dumps(encoder(descriptor, PROTOBUF)(message))
    assert json_format.Parse(text, type(message)()) == message

    theirs = json_format.MessageToJson(message)
    assert type(message)(**decoder(descriptor, PROTOBUF)(orjson.loads(theirs))) == message


def test_values_are_written_as_the_runtime_writes_them() -> None:
    thing = Thing(
        text_value="a",
        i64_value=-(2**63),
        u64_list=[2**64 - 1, 0],
        i32_value=7,
        f64_value=float("nan"),
        f64_list=[0.5, float("inf"), float("-inf")],
        data_value=b"\xff\xfe",
        color=1,
        colors=[0, 2, 99],
        maybe_color=0,
        maybe_text="",
        counts={"a": 2**40},
        at_value={"seconds": 1, "nanos": 1},
        lasting_value={"seconds": -1, "nanos": -500_000_000},
        wrapped_value={"value": 5},
        free_value={"x": [None, 1.5]},
        parts={"k": Thing(flag_value=True)},
    )

    assert written(thing) == json_format.MessageToDict(thing)
    assert written(thing)["f64List"] == [0.5, "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"color": "PAINT_COLOR_RED"}, {"color": 2}),
        ({"color": 2}, {"color": 2}),
        ({"colors": [1, "PAINT_COLOR_UNSPECIFIED", 0]}, {"colors": [1, 0, 0]}),
        ({"i32Value": "5", "u32_value": 6.0}, {"i32_value": 5, "u32_value": 6}),
        ({"i64Value": "-9223372036854775808"}, {"i64_value": -(2**63)}),
        ({"f64Value": "1.5"}, {"f64_value": 1.5}),
        ({"f64List": ["Infinity", 2]}, {"f64_list": [float("inf"), 2.0]}),
        ({"textValue": None}, {}),
        ({"atValue": "1970-01-01T00:00:01.000000001Z"}, {"at_value": {"seconds": 1, "nanos": 1}}),
    ],
)  # fmt: skip
def test_what_the_runtime_reads_is_read(said: Any, read: dict[str, Any]) -> None:
    assert Thing(**_read(said)) == Thing(**read)
    assert json_format.ParseDict(said, Thing()) == Thing(**read)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"color": "PINK"}, "color"),
        ({"color": 2**31}, "color"),
        ({"i32Value": "five"}, "i32_value"),
        ({"i32Value": "4294967296"}, "i32_value"),
        ({"i32Value": "NaN"}, "i32_value"),
        ({"children": [{}, {"flagValue": 1}]}, "children[1].flag_value"),
        ({"f32Value": 3.5e38}, "f32_value"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(said: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        _read(said)
    assert refused.value.field == field
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(said, Thing())


def test_what_is_no_number_at_all_is_read() -> None:
    assert _read({"f64Value": "NaN"})["f64_value"] != _read({"f64Value": "NaN"})["f64_value"]


@pytest.mark.parametrize("said", [3.4028235e38, "3.4028235e38"])
def test_the_largest_number_is_read_in_the_digits_that_the_runtime_writes(said: Any) -> None:
    # And which it does not read itself.
    largest = (2 - 2**-23) * 2.0**127
    assert "3.4028235e+38" in json_format.MessageToJson(Thing(f32_value=largest))
    assert Thing(**_read({"f32Value": said, "f32List": [said]})) == Thing(
        f32_value=largest, f32_list=[largest]
    )

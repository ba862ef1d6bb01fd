"""A service made for tests, whose messages have every kind of field and whose rules every shape.

Its descriptors live in a pool of their own, as those of a reflected coordinator do.
"""

from __future__ import annotations

from typing import Any

from google.api import annotations_pb2 as http_pb2
from google.api import http_pb2 as http_rule_pb2
from google.protobuf import (
    duration_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from aitbc.v1 import annotations_pb2

_SCALARS = {
    "text": Field.TYPE_STRING,
    "flag": Field.TYPE_BOOL,
    "data": Field.TYPE_BYTES,
    "i32": Field.TYPE_INT32,
    "u32": Field.TYPE_UINT32,
    "i64": Field.TYPE_INT64,
    "u64": Field.TYPE_UINT64,
    "f32": Field.TYPE_FLOAT,
    "f64": Field.TYPE_DOUBLE,
}
_WELL_KNOWN = {
    "at": "google.protobuf.Timestamp",
    "lasting": "google.protobuf.Duration",
    "free": "google.protobuf.Struct",
    "wrapped": "google.protobuf.Int64Value",
}
_IMPORTS = (
    timestamp_pb2.DESCRIPTOR,
    duration_pb2.DESCRIPTOR,
    struct_pb2.DESCRIPTOR,
    wrappers_pb2.DESCRIPTOR,
)


def _thing(file: FileDescriptorProto) -> None:
    color = file.enum_type.add(name="PaintColor")
    for number, name in enumerate(("UNSPECIFIED", "DEEP_BLUE", "RED")):
        color.value.add(name=f"PAINT_COLOR_{name}", number=number)
    thing = file.message_type.add(name="Thing")

    def add(name: str, kind: Any, type_name: str = "", **more: Any) -> Field:
        number = len(thing.field) + 1
        return thing.field.add(
            name=name, number=number, type=kind, type_name=type_name or None, **{"label": 1, **more}
        )

    for name, kind in _SCALARS.items():
        add(f"{name}_value", kind)
        add(f"{name}_list", kind, label=Field.LABEL_REPEATED)
    for name, type_name in _WELL_KNOWN.items():
        add(f"{name}_value", Field.TYPE_MESSAGE, type_name)
    add("color", Field.TYPE_ENUM, ".test.PaintColor")
    add("colors", Field.TYPE_ENUM, ".test.PaintColor", label=Field.LABEL_REPEATED)
    add("child", Field.TYPE_MESSAGE, ".test.Thing")
    add("children", Field.TYPE_MESSAGE, ".test.Thing", label=Field.LABEL_REPEATED)
    thing.oneof_decl.add(name="choice")
    add("left", Field.TYPE_STRING, oneof_index=0)
    add("right", Field.TYPE_INT32, oneof_index=0)
    for name, kind, value_type in (
        ("Counts", Field.TYPE_INT64, ""),
        ("Parts", Field.TYPE_MESSAGE, ".test.Thing"),
    ):
        entry = thing.nested_type.add(name=f"{name}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=1)
        entry.field.add(name="value", number=2, type=kind, type_name=value_type or None, label=1)
        add(name.lower(), Field.TYPE_MESSAGE, f".test.Thing.{name}Entry", label=3)
    for name, kind, type_name in (
        ("maybe_text", Field.TYPE_STRING, ""),
        ("maybe_color", Field.TYPE_ENUM, ".test.PaintColor"),
        ("maybe_count", Field.TYPE_INT32, ""),
    ):
        index = len(thing.oneof_decl)
        thing.oneof_decl.add(name=f"_{name}")
        add(name, kind, type_name, proto3_optional=True, oneof_index=index)


def _service(file: FileDescriptorProto) -> None:
    service = file.service.add(name="ThingService")

    def add(
        name: str,
        rule: dict[str, Any],
        success: dict[str, Any] | None = None,
        events: dict[str, str] | None = None,
    ) -> None:
        method = service.method.add(name=name, input_type=".test.Thing", output_type=".test.Thing")
        if events is not None:
            method.server_streaming = True
            method.options.Extensions[annotations_pb2.http_events].CopyFrom(
                annotations_pb2.HttpEvents(**events)
            )
        method.options.Extensions[http_pb2.http].CopyFrom(http_rule_pb2.HttpRule(**rule))
        if success:
            method.options.Extensions[annotations_pb2.http_success].CopyFrom(
                annotations_pb2.HttpSuccess(**success)
            )

    add("Get", {"get": "/things/{text_value}"})
    service.method[0].options.idempotency_level = MethodOptions.NO_SIDE_EFFECTS
    add("Search", {"get": "/things", "additional_bindings": [{"get": "/all/{left=**}"}]})
    add("Create", {"post": "/things", "body": "*"}, {"status": 201, "existing_field": "maybe_text"})
    add("Replace", {"put": "/things/{text_value}/child", "body": "child"})
    add("Nested", {"post": "/under/{child.text_value=shelves/*}:move", "body": "*"})
    add("Poll", {"get": "/poll", "response_body": "child"}, {"empty_status": 204})
    named = {"event_field": "color", "id_field": "i32_value"}
    add("Follow", {"get": "/things/{text_value}/events"}, {"empty_status": 204}, named)
    add("Make", {"post": "/things", "body": "*"}, {"status": 201}, {})
    add("Watch", {"custom": {"kind": "REPORT", "path": "/things/{text_value}"}})


def _build() -> DescriptorPool:
    file = FileDescriptorProto(name="test.proto", package="test", syntax="proto3")
    pool = DescriptorPool()
    for imported in _IMPORTS:
        file.dependency.append(imported.name)
        pool.AddSerializedFile(imported.serialized_pb)
    _thing(file)
    _service(file)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _build()
THING = _POOL.FindMessageTypeByName("test.Thing")
Thing: type[Message] = message_factory.GetMessageClass(THING)
METHODS: tuple[MethodDescriptor, ...] = tuple(_POOL.FindServiceByName("test.ThingService").methods)
# The lists and maps of a Thing that has nothing in them, as every response has them.
EMPTY: dict[str, Any] = {
    **{f"{name}_list": [] for name in _SCALARS},
    "colors": [],
    "children": [],
    "counts": {},
    "parts": {},
}

"""Reads what the protos say, their comments included, for the reference pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from google.api import annotations_pb2 as http_pb2
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from scripts.processes import ROOT

from aitbc.v1 import annotations_pb2

PACKAGE = "aitbc.v1"

# Numbers of descriptor.proto's fields: a location's path is made of them.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_MEMBERS = 2

_VERBS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a message."""

    name: str
    # As a .proto file writes it: `string`, `Job`, `google.protobuf.Timestamp`. Of a map, that of
    # its values.
    type: str
    # Type of its keys, if it is a map.
    key_type: str
    comment: str
    is_repeated: bool
    is_required: bool
    # Name of its oneof, if it is in a real one.
    oneof: str
    # Header that may fill it over HTTP.
    http_header: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message."""

    name: str
    comment: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enum:
    """An enum: its values by name, with their comments."""

    name: str
    comment: str
    values: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a method is called over HTTP."""

    verb: str
    path: str
    has_body: bool
    # Statuses of a success, the usual one first.
    statuses: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of a service."""

    name: str
    comment: str
    request: str
    response: str
    streams_requests: bool
    streams_responses: bool
    route: Route | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service."""

    name: str
    comment: str
    methods: tuple[Method, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Everything that the protos define."""

    services: tuple[Service, ...]
    messages: dict[str, Message]
    enums: dict[str, Enum]

    def methods(self) -> Iterator[Method]:
        """Yields the methods of all services."""
        for service in self.services:
            yield from service.methods


@cache
def load() -> Api:
    """Returns the API as the protos in the tree define it."""
    files = [file for file in _descriptor_set().file if file.package == PACKAGE]
    messages = [message for file in files for message in _File(file).messages()]
    enums = [enum for file in files for enum in _File(file).enums()]
    return Api(
        services=tuple(service for file in files for service in _File(file).services()),
        messages={message.name: message for message in messages},
        enums={enum.name: enum for enum in enums},
    )


def _descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    protos = ROOT / "protos"
    with TemporaryDirectory() as directory:
        output = Path(directory) / "protos.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", "--include_source_info"]
        command += ["-I", str(protos), "-o", str(output)]
        ours = sorted((protos / "aitbc").rglob("*.proto"))
        subprocess.run([*command, *map(str, ours)], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())


class _File:
    """One .proto file and its comments."""

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(location.path): _flowed(location.leading_comments)
            for location in file.source_code_info.location
        }

    def messages(self) -> Iterator[Message]:
        for number, message in enumerate(self._file.message_type):
            path = (_MESSAGES, number)
            fields = (
                self._field(message, field, (*path, _MEMBERS, index))
                for index, field in enumerate(message.field)
            )
            yield Message(name=message.name, comment=self._comment(path), fields=tuple(fields))

    def enums(self) -> Iterator[Enum]:
        for number, enum in enumerate(self._file.enum_type):
            path = (_ENUMS, number)
            values = {
                value.name: self._comment((*path, _MEMBERS, index))
                for index, value in enumerate(enum.value)
            }
            yield Enum(name=enum.name, comment=self._comment(path), values=values)

    def services(self) -> Iterator[Service]:
        for number, service in enumerate(self._file.service):
            path = (_SERVICES, number)
            methods = (
                _method(method, self._comment((*path, _MEMBERS, index)))
                for index, method in enumerate(service.method)
            )
            yield Service(name=service.name, comment=self._comment(path), methods=tuple(methods))

    def _field(
        self,
        message: descriptor_pb2.DescriptorProto,
        field: FieldDescriptorProto,
        path: tuple[int, ...],
    ) -> Field:
        behavior = field.options.Extensions[field_behavior_pb2.field_behavior]
        in_oneof = field.HasField("oneof_index") and not field.proto3_optional
        is_repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        value, key_type = field, ""
        for nested in message.nested_type:
            if nested.options.map_entry and field.type_name.endswith(
                f".{message.name}.{nested.name}"
            ):
                key, value = nested.field
                is_repeated, key_type = False, _type_name(key)
        return Field(
            name=field.name,
            type=_type_name(value),
            key_type=key_type,
            comment=self._comment(path).removeprefix("Required. "),
            is_repeated=is_repeated,
            is_required=field_behavior_pb2.REQUIRED in behavior,
            oneof=message.oneof_decl[field.oneof_index].name if in_oneof else "",
            http_header=field.options.Extensions[annotations_pb2.http_header],
        )

    def _comment(self, path: tuple[int, ...]) -> str:
        return self._comments.get(path, "")


def _method(method: descriptor_pb2.MethodDescriptorProto, comment: str) -> Method:
    return Method(
        name=method.name,
        comment=comment,
        request=_local(method.input_type),
        response=_local(method.output_type),
        streams_requests=method.client_streaming,
        streams_responses=method.server_streaming,
        route=_route(method.options),
    )


def _route(options: descriptor_pb2.MethodOptions) -> Route | None:
    if not options.HasExtension(http_pb2.http):
        return None
    rule = options.Extensions[http_pb2.http]
    verb = next(verb for verb in _VERBS if getattr(rule, verb))
    success = options.Extensions[annotations_pb2.http_success]
    statuses = [success.status or 200]
    if success.empty_status:
        statuses.append(success.empty_status)
    if success.existing_field:
        statuses.append(200)
    return Route(
        verb=verb.upper(),
        path=getattr(rule, verb),
        has_body=bool(rule.body),
        statuses=tuple(statuses),
    )


def _type_name(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _local(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _local(name: str) -> str:
    return name.removeprefix(".").removeprefix(f"{PACKAGE}.")


def _flowed(comment: str) -> str:
    """Returns the comment with one line for each paragraph."""
    return "\n\n".join(_paragraphs(comment.splitlines()))


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    words: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            words.append(line.strip())
        elif words:
            yield " ".join(words)
            words = []

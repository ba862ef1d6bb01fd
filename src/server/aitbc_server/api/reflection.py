"""Server reflection: what the services look like, for tools that have no protos.

grpcio's own servicer speaks v1alpha alone, and finds no methods, fields or values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2

# Both say the same, but for the name of the package.
V1 = "grpc.reflection.v1.ServerReflection"
V1_ALPHA = "grpc.reflection.v1alpha.ServerReflection"

Question = reflection_pb2.ServerReflectionRequest
Answer = reflection_pb2.ServerReflectionResponse


class Reflection:
    """Answers questions about services, and about all that their files and errors consist of."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services`: full names of those to describe, beside reflection itself."""
        self._served = tuple(services)

    def answer(self, question: Question) -> Answer:
        """Returns what is known, or that nothing is."""
        answer = Answer(valid_host=question.host, original_request=question)
        index = self._index
        match question.WhichOneof("message_request"):
            case "list_services":
                listed = answer.list_services_response.service
                for name in sorted({*self._served, V1, V1_ALPHA}):
                    listed.add(name=name)
            case "file_by_filename":
                self._describe(answer, question.file_by_filename)
            case "file_containing_symbol":
                self._describe(answer, index.by_symbol.get(question.file_containing_symbol))
            case "file_containing_extension":
                asked = question.file_containing_extension
                numbers = index.extensions.get(asked.containing_type, {})
                self._describe(answer, numbers.get(asked.extension_number))
            case "all_extension_numbers_of_type":
                name = question.all_extension_numbers_of_type
                if name in index.messages:
                    told = answer.all_extension_numbers_response
                    told.base_type_name = name
                    told.extension_number.extend(sorted(index.extensions.get(name, ())))
                else:
                    _refuse(answer, grpc.StatusCode.NOT_FOUND)
            case _:
                _refuse(answer, grpc.StatusCode.INVALID_ARGUMENT)
        return answer

    # When it is first asked for: hardly anybody does.
    @cached_property
    def _index(self) -> _Index:
        index = _Index()
        pool = descriptor_pool.Default()
        described = [pool.FindServiceByName(name).file for name in (*self._served, V1_ALPHA)]
        # What errors carry.
        for descriptor in (*described, status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR):
            for file in _with_dependencies(descriptor):
                index.add(file)
        index.add(_newer(_proto_of(described[-1])))
        return index

    def _describe(self, answer: Answer, name: str | None) -> None:
        """Gives a file with all that it imports, so that one question is enough."""
        files = self._index.files
        if name not in files:
            _refuse(answer, grpc.StatusCode.NOT_FOUND)
            return
        told = answer.file_descriptor_response.file_descriptor_proto
        names = [name]
        for one in names:
            names += [other for other in files[one].dependency if other not in names]
            told.append(files[one].SerializeToString())


class _Index:
    """Where everything is."""

    def __init__(self) -> None:
        self.files: dict[str, FileDescriptorProto] = {}
        self.by_symbol: dict[str, str] = {}
        self.messages: set[str] = set()
        # Names of files, by extended message and number.
        self.extensions: dict[str, dict[int, str]] = {}

    def add(self, file: FileDescriptorProto) -> None:
        if file.name in self.files:
            return
        self.files[file.name] = file
        scope = f"{file.package}." if file.package else ""
        for service in file.service:
            self._note(file, f"{scope}{service.name}")
            for method in service.method:
                self._note(file, f"{scope}{service.name}.{method.name}")
        self._types(file, scope, file.message_type, file.enum_type, file.extension)

    def _types(
        self,
        file: FileDescriptorProto,
        scope: str,
        messages: Sequence[DescriptorProto],
        enums: Sequence[EnumDescriptorProto],
        extensions: Sequence[FieldDescriptorProto],
    ) -> None:
        for message in messages:
            name = f"{scope}{message.name}"
            self.messages.add(name)
            self._note(file, name)
            for field in message.field:
                self._note(file, f"{name}.{field.name}")
            for oneof in message.oneof_decl:
                self._note(file, f"{name}.{oneof.name}")
            nested = (message.nested_type, message.enum_type, message.extension)
            self._types(file, f"{name}.", *nested)
        for enum in enums:
            self._note(file, f"{scope}{enum.name}")
            for value in enum.value:
                # A value stands beside its enum; some tools look for it within.
                self._note(file, f"{scope}{value.name}")
                self._note(file, f"{scope}{enum.name}.{value.name}")
        for extension in extensions:
            self._note(file, f"{scope}{extension.name}")
            extended = self.extensions.setdefault(extension.extendee.removeprefix("."), {})
            extended[extension.number] = file.name

    def _note(self, file: FileDescriptorProto, symbol: str) -> None:
        self.by_symbol[symbol] = file.name


def _with_dependencies(descriptor: FileDescriptor) -> Iterator[FileDescriptorProto]:
    for dependency in descriptor.dependencies:
        yield from _with_dependencies(dependency)
    yield _proto_of(descriptor)


def _proto_of(descriptor: FileDescriptor) -> FileDescriptorProto:
    file = FileDescriptorProto()
    descriptor.CopyToProto(file)
    return file


def _newer(alpha: FileDescriptorProto) -> FileDescriptorProto:
    """Returns the file of reflection v1, which grpcio does not have."""
    newer = FileDescriptorProto()
    text_format.Parse(text_format.MessageToString(alpha).replace("v1alpha", "v1"), newer)
    return newer


def _refuse(answer: Answer, code: grpc.StatusCode) -> None:
    answer.error_response.error_code, answer.error_response.error_message = code.value

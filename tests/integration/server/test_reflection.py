"""Tools without protos learn everything by reflection, in both of its versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2

from aitbc_server.rest.openapi.document import packaged_methods
from tests.integration.server.harness import coordinator

VERSIONS = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
Answer = reflection_pb2.ServerReflectionResponse


class Tool:
    """Asks on one reflection stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def ask(self, **question: Any) -> Answer:
        """Returns what is answered."""
        await self._call.write(reflection_pb2.ServerReflectionRequest(**question))
        answer = await self._call.read()
        assert isinstance(answer, Answer)
        assert answer.original_request == reflection_pb2.ServerReflectionRequest(**question)
        return answer

    async def files(self, **question: Any) -> list[FileDescriptorProto]:
        """Returns the files that are answered, of which there must be one."""
        answer = await self.ask(**question)
        assert answer.HasField("file_descriptor_response"), question
        found = answer.file_descriptor_response.file_descriptor_proto
        return [FileDescriptorProto.FromString(data) for data in found]

    async def services(self) -> list[str]:
        """Returns the names of all services."""
        listed = (await self.ask(list_services="")).list_services_response.service
        return [service.name for service in listed]


@asynccontextmanager
async def tool(data: Path, version: str) -> AsyncIterator[Tool]:
    """Gives a tool that asks a coordinator."""
    async with coordinator(data) as client:
        call = client.channel.stream_stream(
            f"/{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=Answer.FromString,
        )()
        yield Tool(call)
        call.cancel()


def _load(pool: DescriptorPool, files: Iterable[FileDescriptorProto]) -> None:
    """Adds files to a pool, what they import first. All of it must be among them."""
    by_name = {file.name: file for file in files}

    def add(name: str) -> None:
        file = by_name.pop(name, None)
        if file is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.Add(file)

    for name in list(by_name):
        add(name)


@pytest.mark.parametrize("version", VERSIONS)
async def test_all_files_load_where_nothing_was_known(tmp_path: Path, version: str) -> None:
    async with tool(tmp_path, version) as asked:
        services = await asked.services()
        assert {*VERSIONS} <= {service.rpartition(".")[0] for service in services}
        assert services == sorted(services)
        for service in services:
            # Each answer is enough by itself.
            pool = DescriptorPool()
            _load(pool, await asked.files(file_containing_symbol=service))
            assert pool.FindServiceByName(service).methods
            for method in pool.FindServiceByName(service).methods:
                message_factory.GetMessageClass(method.input_type)
        ours = {method.containing_service.full_name for method in packaged_methods()}
        assert ours <= {*services}


@pytest.mark.parametrize("version", VERSIONS)
async def test_options_can_be_read_by_what_reflection_tells(tmp_path: Path, version: str) -> None:
    async with tool(tmp_path, version) as asked:
        extended = "google.protobuf.MethodOptions"
        answer = await asked.ask(all_extension_numbers_of_type=extended)
        numbers = answer.all_extension_numbers_response
        assert numbers.base_type_name == extended
        assert 72295728 in numbers.extension_number
        pool = DescriptorPool()
        for number in numbers.extension_number:
            files = await asked.files(
                file_containing_extension={"containing_type": extended, "extension_number": number}
            )
            _load(pool, [file for file in files if not _is_in(pool, file.name)])
        _load(
            pool,
            [
                file
                for file in await asked.files(file_containing_symbol="aitbc.v1.JobService")
                if not _is_in(pool, file.name)
            ],
        )
        method = pool.FindMethodByName("aitbc.v1.JobService.GetJob")
        options = message_factory.GetMessageClass(pool.FindMessageTypeByName(extended)).FromString(
            method.GetOptions().SerializeToString()
        )
        http: Any = pool.FindExtensionByName("google.api.http")
        assert options.Extensions[http].get == "/v1/jobs/{job_id}"
        roles: Any = pool.FindExtensionByName("aitbc.v1.roles")
        assert list(options.Extensions[roles]) == [1]


def _is_in(pool: DescriptorPool, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True


SYMBOLS = [
    "aitbc.v1.JobService.GetJob",
    "aitbc.v1.MinerService.Work",
    "aitbc.v1.Job",
    "aitbc.v1.Job.job_id",
    "aitbc.v1.Job.MetadataEntry",
    "aitbc.v1.Update.event",
    "aitbc.v1.JobStatus",
    "aitbc.v1.JOB_STATUS_PENDING",
    "aitbc.v1.JobStatus.JOB_STATUS_PENDING",
    "aitbc.v1.rules",
    "google.api.http",
    "google.api.HttpRule",
    "google.api.field_behavior",
    "google.protobuf.Timestamp",
    "google.protobuf.FieldDescriptorProto.Type",
    # What errors carry.
    "google.rpc.Status",
    "google.rpc.ErrorInfo",
    "google.rpc.RetryInfo",
    "grpc.health.v1.Health.Check",
    "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
    "grpc.reflection.v1.ServerReflectionRequest",
    "grpc.reflection.v1alpha.ServerReflectionRequest",
]
PACKAGES = (
    *("grpc.reflection.v1alpha", "grpc.reflection.v1", "grpc.health.v1"),
    *("google.protobuf", "google.api", "google.rpc", "aitbc.v1"),
)


async def test_everything_is_described_by_its_name(tmp_path: Path) -> None:
    async with tool(tmp_path, VERSIONS[0]) as asked:
        for symbol in SYMBOLS:
            files = await asked.files(file_containing_symbol=symbol)
            by_name = await asked.files(file_by_filename=files[0].name)
            assert by_name == files
            package = next(one for one in PACKAGES if symbol.startswith(f"{one}."))
            assert files[0].package == package
            _load(DescriptorPool(), files)


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "aitbc.v1.Nothing"},
        {"file_by_filename": "nothing.proto"},
        {"file_containing_extension": {"containing_type": "aitbc.v1.Job", "extension_number": 1}},
        {"all_extension_numbers_of_type": "aitbc.v1.Nothing"},
    ],
    ids=lambda question: next(iter(question)),
)
async def test_what_there_is_not_is_not_found(tmp_path: Path, question: dict[str, Any]) -> None:
    async with tool(tmp_path, VERSIONS[0]) as asked:
        answer = await asked.ask(**question)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        # And the stream goes on.
        assert await asked.services()


async def test_a_question_that_asks_nothing_is_told_so(tmp_path: Path) -> None:
    async with tool(tmp_path, VERSIONS[0]) as asked:
        answer = await asked.ask(host="h")
        assert answer.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert answer.valid_host == "h"


async def test_a_message_without_extensions_has_none(tmp_path: Path) -> None:
    async with tool(tmp_path, VERSIONS[0]) as asked:
        answer = await asked.ask(all_extension_numbers_of_type="aitbc.v1.Job")
        assert answer.all_extension_numbers_response.base_type_name == "aitbc.v1.Job"
        assert not answer.all_extension_numbers_response.extension_number

"""The protos suit the generators of every language, and are the whole of what these need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileOptions, MethodOptions
from scripts.processes import ROOT

from aitbc.v1 import miners_pb2
from aitbc_server.rest.openapi.document import packaged_methods

PROTOS = ROOT / "protos"
OURS = sorted((PROTOS / "aitbc").rglob("*.proto"))
GOOGLES = sorted((PROTOS / "google").rglob("*.proto"))
LANGUAGES = {
    "csharp_namespace": "Aitbc.V1",
    "go_package": "aitbc/v1;aitbcv1",
    "java_multiple_files": True,
    "java_package": "com.aitbc.v1",
    "objc_class_prefix": "AITBC",
    "php_metadata_namespace": r"Aitbc\V1\GPBMetadata",
    "php_namespace": r"Aitbc\V1",
    "ruby_package": "Aitbc::V1",
    "swift_prefix": "AITBC",
}
READS = {
    "BatchService": ["GetBatch", "ListBatches"],
    "ExplorerService": [
        *("GetBlock", "GetConsistencyProof", "GetExplorerStats", "GetPublicReceipt"),
        *("GetTransaction", "ListBlocks", "ListLedgerKeys", "ListPublicReceipts"),
        *("ListTransactions", "WatchBlocks"),
    ],
    "FileService": ["GetFile", "ListFiles", "ReadFile"],
    "JobService": ["GetJob", "GetJobQueue", "ListJobs", "StreamJob"],
    "MinerService": ["GetMiner", "ListMiners"],
    "NetworkService": ["GetHealth", "GetStats"],
    "ReceiptService": ["GetReceipt", "GetReceiptProof", "ListReceipts", "VerifyReceipt"],
    "UsageService": ["GetUsage"],
    "WebhookService": ["GetDelivery", "GetWebhook", "ListDeliveries", "ListWebhooks"],
    "WitnessService": ["ListCosignatures"],
}


def _files() -> Iterator[FileDescriptor]:
    seen: dict[str, FileDescriptor] = {}
    waiting = [method.containing_service.file for method in _methods()]
    while waiting:
        file = waiting.pop()
        if file.name not in seen and file.package == "aitbc.v1":
            seen[file.name] = file
            waiting += file.dependencies
    yield from seen.values()


def _methods() -> Iterator[MethodDescriptor]:
    yield from packaged_methods()
    yield from miners_pb2.DESCRIPTOR.services_by_name["MinerService"].methods


FILES = {file.name: file for file in _files()}


def test_no_file_of_ours_is_missed() -> None:
    assert set(FILES) == {str(path.relative_to(PROTOS)) for path in OURS}


@pytest.mark.parametrize("file", FILES.values(), ids=list(FILES))
def test_every_file_says_how_each_language_names_it(file: FileDescriptor) -> None:
    options: FileOptions = file.GetOptions()
    assert {name: getattr(options, name) for name in LANGUAGES} == LANGUAGES
    assert options.java_outer_classname == f"{Path(file.name).stem.title()}Proto"


def test_outer_classes_of_java_collide_with_nothing() -> None:
    # Java's classes are files, and some file systems do not tell capitals from small letters.
    names = [file.GetOptions().java_outer_classname for file in FILES.values()]
    for file in FILES.values():
        names += file.message_types_by_name.keys()
        names += file.enum_types_by_name.keys()
        names += [f"{name}Grpc" for name in file.services_by_name]
        # Of each message with several files, too.
        names += [f"{name}OrBuilder" for name in file.message_types_by_name]
    counted = Counter(name.lower() for name in names)
    assert [name for name, count in counted.items() if count > 1] == []


def test_methods_that_only_read_say_so() -> None:
    found: dict[str, list[str]] = {}
    for method in _methods():
        options: MethodOptions = method.GetOptions()
        if options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS:
            found.setdefault(method.containing_service.name, []).append(method.name)
    assert {service: sorted(set(names)) for service, names in found.items()} == READS


def test_a_poll_for_jobs_tells_that_a_miner_lives_and_may_be_repeated() -> None:
    [poll] = [method for method in packaged_methods() if method.name == "ListAvailableJobs"]
    assert poll.GetOptions().idempotency_level == MethodOptions.IDEMPOTENT


@pytest.mark.parametrize("path", GOOGLES, ids=lambda path: path.stem)
def test_files_of_google_are_those_of_its_package(path: Path) -> None:
    package = ".".join(path.relative_to(PROTOS).parts[:-1])
    assert path.read_bytes() == (resources.files(package) / path.name).read_bytes()


def test_nothing_that_is_imported_is_missing() -> None:
    there = {str(path.relative_to(PROTOS)) for path in (*OURS, *GOOGLES)}
    for path in (*OURS, *GOOGLES):
        for line in path.read_text().splitlines():
            if line.startswith("import "):
                name = line.split('"')[1]
                # protoc brings google/protobuf itself.
                assert name in there or name.startswith("google/protobuf/"), f"{path}: {name}"


def test_the_licence_of_googles_files_is_kept() -> None:
    assert "Apache License" in (PROTOS / "google" / "LICENSE").read_text()


def _getters(field: FieldDescriptor) -> set[str]:
    """Returns the names that Java's class gives to what reads a field."""
    name = "".join(part.capitalize() for part in field.name.split("_"))
    held = field.message_type
    ends = {""}
    if held is not None and held.GetOptions().map_entry:
        ends |= {"Map", "Count", "OrDefault", "OrThrow"}
    elif field.is_repeated:
        ends |= {"List", "Count"}
    if held is not None:
        ends |= {"Builder", "OrBuilder", "BuilderList", "OrBuilderList"}
    if field.enum_type is not None:
        ends |= {"Value", "ValueList"}
    if field.type == FieldDescriptor.TYPE_STRING:
        ends |= {"Bytes"}
    return {f"get{name}{end}" for end in ends}


@pytest.mark.parametrize("file", FILES.values(), ids=list(FILES))
def test_no_two_fields_have_one_getter_in_java(file: FileDescriptor) -> None:
    for message in file.message_types_by_name.values():
        counted = Counter(name for field in message.fields for name in _getters(field))
        # What every message has in Java.
        counted.update(["getClass", "getDefaultInstance", "getDescriptor", "getParserForType"])
        counted.update(["getSerializedSize", "getUnknownFields", "getAllFields"])
        assert [name for name, count in counted.items() if count > 1] == [], message.name

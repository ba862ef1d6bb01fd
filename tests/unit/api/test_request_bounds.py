"""Whatever a request may hold, its protos say how much of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from aitbc.v1 import (
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    work_pb2,
)
from aitbc_server.api.validation import rules_of

MODULES = (
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
)
# What only the size of the message bounds: answers, and names that are looked up by the thousands.
AS_LONG_AS_THE_MESSAGE = {
    "aitbc.v1.CompleteJobRequest.result",
    "aitbc.v1.VerifyReceiptRequest.result",
    "aitbc.v1.HeldLease.lease_id",
}
# A pattern that takes texts of any length.
UNBOUNDED = re.compile(r"(?<!\\)[*+]|\{\d+,\}")


def requests() -> Iterator[Descriptor]:
    for module in MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from (method.input_type for method in service.methods)
    yield work_pb2.Hello.DESCRIPTOR


def fields_of(descriptor: Descriptor, seen: set[Descriptor]) -> Iterator[FieldDescriptor]:
    if descriptor in seen or descriptor.full_name.startswith("google."):
        return
    seen.add(descriptor)
    for field in descriptor.fields:
        yield field
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from fields_of(field.message_type, seen)


def is_bounded(field: FieldDescriptor) -> bool:
    rules = rules_of(field)
    if field.is_repeated and (rules is None or not rules.max_items):
        return False
    kinds = {field.type}
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        kinds = {part.type for part in field.message_type.fields}
    if FieldDescriptor.TYPE_BYTES in kinds:
        return bool(rules is not None and rules.bytes)
    if FieldDescriptor.TYPE_STRING not in kinds:
        return True
    return rules is not None and bool(
        rules.max_bytes
        or rules.max_length
        or rules.is_date
        or (rules.pattern and not UNBOUNDED.search(rules.pattern))
    )


def all_fields() -> list[FieldDescriptor]:
    seen: set[Descriptor] = {work_pb2.MinerMessage.DESCRIPTOR}
    return [
        field
        for request in requests()
        for field in fields_of(request, seen)
        if field.full_name not in AS_LONG_AS_THE_MESSAGE
    ]


@pytest.mark.parametrize("field", all_fields(), ids=lambda field: field.full_name)
def test_every_list_map_and_text_of_a_request_has_a_bound(field: FieldDescriptor) -> None:
    assert is_bounded(field)

"""The published configurations of gRPC clients name what there is, and retry only what may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from scripts.processes import ROOT

from aitbc.v1 import miners_pb2
from aitbc_server.rest.openapi.document import packaged_methods

# By the name of the file: whether its users give each submission a request id.
CONFIGS = {"service_config.json": False, "service_config_request_ids.json": True}
METHODS = {
    (method.containing_service.full_name, method.name): method
    for method in (
        *packaged_methods(),
        *miners_pb2.DESCRIPTOR.services_by_name["MinerService"].methods,
    )
}
SERVICES = {service for service, _ in METHODS}


def load(name: str) -> dict[str, Any]:
    """Returns a published configuration."""
    config: dict[str, Any] = json.loads((ROOT / "protos" / "aitbc" / "v1" / name).read_text())
    return config


def entries(name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields (service, method or "", entry)."""
    for entry in load(name)["methodConfig"]:
        for one in entry["name"]:
            yield one["service"], one.get("method", ""), entry


def entry_of(name: str, method: MethodDescriptor) -> dict[str, Any]:
    """Returns what a client applies to a method: the entry of its own, or else of its service."""
    found = {(service, named): entry for service, named, entry in entries(name)}
    service = method.containing_service.full_name
    return found.get((service, method.name)) or found[service, ""]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_named_exists_and_is_named_once(name: str) -> None:
    named = [(service, method) for service, method, _ in entries(name)]
    assert len(named) == len(set(named))
    for service, method in named:
        assert (service, method) in METHODS if method else service in SERVICES


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("method", METHODS.values(), ids=lambda one: one.name)
def test_a_method_is_retried_exactly_when_a_repetition_changes_nothing(
    name: str, method: MethodDescriptor
) -> None:
    level = method.GetOptions().idempotency_level
    is_named = "request_id" in method.input_type.fields_by_name
    may_be = level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT) or (
        is_named and CONFIGS[name]
    )
    entry = entry_of(name, method)
    assert ("retryPolicy" in entry) == may_be
    assert "hedgingPolicy" not in entry
    if may_be:
        assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("method", METHODS.values(), ids=lambda one: one.name)
def test_calls_have_a_time_and_streams_none(name: str, method: MethodDescriptor) -> None:
    is_stream = method.client_streaming or method.server_streaming
    entry = entry_of(name, method)
    assert ("timeout" in entry) == (not is_stream)
    if method.name == "GetJob":
        # Longer than the longest wait.
        assert float(entry["timeout"][:-1]) > 60

from __future__ import annotations

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from aitbc.v1 import jobs_pb2, miners_pb2, network_pb2
from aitbc_server.rest.route import compile_routes

METHODS = [
    method
    for module in (jobs_pb2, miners_pb2, network_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(
    ("http_method", "path", "name"),
    [
        ("POST", "/v1/jobs", "SubmitJob"),
        ("POST", "/v1/jobs:batch", "BatchSubmitJobs"),
        ("GET", "/v1/jobs/job-1", "GetJob"),
        ("GET", "/v1/jobs", "ListJobs"),
        ("GET", "/v1/jobs/available", "ListAvailableJobs"),
        ("POST", "/v1/jobs/job-1/cancel", "CancelJob"),
        ("POST", "/v1/jobs/job-1/claim", "ClaimJob"),
        ("POST", "/v1/jobs/job-1/complete", "CompleteJob"),
        ("POST", "/v1/miners/register", "RegisterMiner"),
        ("GET", "/health", "GetHealth"),
        ("GET", "/v1/stats", "GetStats"),
    ],
)
def test_the_documented_paths_lead_to_their_methods(http_method: str, path: str, name: str) -> None:
    route, _ = compile_routes(METHODS).match(http_method, path)

    assert route.method.name == name


def test_an_idempotency_key_comes_from_its_header() -> None:
    route, captures = compile_routes(METHODS).match("POST", "/v1/jobs")

    request = route.request(captures, b"", {"idempotency-key": "k"}, b'{"model": "m"}')

    assert request == jobs_pb2.SubmitJobRequest(model="m", request_id="k")


def _method(**rule: object) -> MethodDescriptor:
    file = FileDescriptorProto(name="one.proto", package="one", syntax="proto3")
    message = file.message_type.add(name="Message")
    message.field.add(name="text", number=1, type=9, label=1)
    message.field.add(name="texts", number=2, type=9, label=3)
    service = file.service.add(name="Service")
    method = service.method.add(name="Do", input_type=".one.Message", output_type=".one.Message")
    method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("one.Service").methods[0]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({}, "without a pattern"),
        ({"get": "nowhere"}, "expected"),
        ({"get": "/{missing}"}, "missing takes no text"),
        ({"get": "/{texts}"}, "texts takes no text"),
        ({"post": "/x", "body": "missing"}, "no field missing"),
        ({"get": "/x", "response_body": "missing"}, "no field missing"),
        ({"get": "/x", "additional_bindings": [{"get": "/x"}]}, "bound twice"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compile_routes([_method(**rule)])

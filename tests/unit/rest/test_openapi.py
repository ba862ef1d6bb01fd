"""The document is valid OpenAPI, says what the protos say, and its examples are true."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import MessageOptions
from openapi_spec_validator import validate

from aitbc.v1 import annotations_pb2
from aitbc_server.api.validation import validator
from aitbc_server.rest.app import RestApp
from aitbc_server.rest.codec import decoder, encoder, response_encoder
from aitbc_server.rest.openapi.document import document, packaged_methods
from aitbc_server.rest.openapi.schemas import bytes_schema, example_of
from aitbc_server.rest.openapi.site import openapi_mounts
from aitbc_server.rest.route import Route, routes
from aitbc_server.rest.site import Site
from tests.unit.rest.schema import METHODS
from tests.unit.rest.serving import FakeBackend, client_of

DOCUMENT = document(packaged_methods(), is_key_required=True)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[str, Any] = {
    operation["operationId"]: operation
    for item in DOCUMENT["paths"].values()
    for operation in item.values()
}
ROUTES = list(routes(packaged_methods()))
ROUTED = [method for method in packaged_methods() if any(r.method is method for r in ROUTES)]


def _with_examples(root: Descriptor, found: dict[str, Descriptor]) -> None:
    if root.full_name in found:
        return
    found[root.full_name] = root
    for field in root.fields:
        if field.message_type is not None:
            _with_examples(field.message_type, found)


MESSAGES: dict[str, Descriptor] = {}
for one in ROUTED:
    _with_examples(one.input_type, MESSAGES)
    _with_examples(one.output_type, MESSAGES)


def has_example(message: Descriptor) -> bool:
    options = MessageOptions.FromString(message.GetOptions().SerializeToString())
    return bool(options.Extensions[annotations_pb2.example])


@pytest.mark.parametrize("methods", [packaged_methods(), METHODS], ids=["ours", "every kind"])
def test_document_is_valid(methods: Any) -> None:
    validate(document(methods, is_key_required=False))


def test_every_route_has_an_operation() -> None:
    assert len(OPERATIONS) == len(ROUTES)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_says_what_it_does_and_how_it_fails(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert {"500", "503"} <= set(operation["responses"])
    assert all(parameter["description"] for parameter in operation.get("parameters", ()))


@pytest.mark.parametrize("name", [name for name in MESSAGES if has_example(MESSAGES[name])])
def test_example_is_a_valid_message(name: str) -> None:
    descriptor = MESSAGES[name]
    example = example_of(descriptor)
    message = message_factory.GetMessageClass(descriptor)(**decoder(descriptor)(example))
    validator(descriptor)(message)
    assert encoder(descriptor)(message) == example


def test_a_rule_becomes_what_json_schema_says_of_it() -> None:
    params = SCHEMAS["GenerationParams"]["properties"]
    assert params["max_tokens"]["minimum"] == 1
    assert params["max_tokens"]["maximum"] == 1_000_000
    assert params["top_p"]["exclusiveMinimum"] == 0
    assert params["stop"]["maxItems"] == 16
    assert params["stop"]["items"]["maxLength"] == 4096
    assert SCHEMAS["ContentPart"]["properties"]["type"]["enum"][0] == "text"
    assert SCHEMAS["SubmitJobRequest"]["required"] == ["model"]
    assert SCHEMAS["SubmitJobRequest"]["additionalProperties"] is False
    assert SCHEMAS["JobStatus"]["enum"][0] == "pending"


def test_a_message_with_one_of_several_fields_says_so() -> None:
    alternatives = SCHEMAS["SubmitJobRequest"]["oneOf"]
    assert [one["required"] for one in alternatives] == [
        ["prompt"],
        ["messages"],
        ["prompt_token_ids"],
        ["inputs"],
    ]


def test_a_message_with_at_least_one_of_two_fields_says_so() -> None:
    body = OPERATIONS["completeJob"]["requestBody"]["content"]["application/json"]["schema"]
    assert [one["required"] for one in body["anyOf"]] == [["miner_id"], ["receipt"]]
    assert body["anyOf"][1]["properties"]["receipt"]["required"] == ["miner_id"]


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33])
def test_the_pattern_of_bytes_of_one_size_takes_no_others(size: int) -> None:
    pattern = re.compile(bytes_schema(annotations_pb2.Rules(bytes=size))["pattern"])
    for length in range(size + 2):
        for data in (bytes(length), b"\xff" * length):
            for text in (b64encode(data), urlsafe_b64encode(data), b64encode(data).rstrip(b"=")):
                assert (pattern.search(text.decode()) is not None) == (length in (0, size))


def test_what_a_form_leaves_empty_is_valid() -> None:
    limit = next(one for one in OPERATIONS["listJobs"]["parameters"] if one["name"] == "limit")
    assert limit["schema"]["anyOf"][1] == {"const": ""}
    since = next(one for one in OPERATIONS["getUsage"]["parameters"] if one["name"] == "since")
    assert since["schema"]["anyOf"] == [{"type": "string", "format": "date"}, {"const": ""}]


@pytest.mark.parametrize("route", [r for r in ROUTES if not r.method.server_streaming])
def test_lists_and_maps_of_a_response_are_required(route: Route) -> None:
    descriptor = route.method.output_type
    response = message_factory.GetMessageClass(descriptor)
    name = route.method.name[0].lower() + route.method.name[1:]
    content = OPERATIONS[name]["responses"][str(route.status)]["content"]

    always_there = response_encoder(descriptor)(response())

    assert _required(content["application/json"]["schema"]) >= set(always_there)


def _required(schema: dict[str, Any]) -> set[str]:
    found = set(schema.get("required", ()))
    for part in schema.get("allOf", ()):
        found |= _required(part)
    if "$ref" in schema:
        found |= _required(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    return found


def test_lists_are_not_required_of_a_message_that_others_hold() -> None:
    assert SCHEMAS["ListJobsResponse"]["required"] == ["jobs"]
    assert "required" not in SCHEMAS["Job"]


def test_a_stream_with_nothing_to_say_is_in_the_document() -> None:
    assert OPERATIONS["streamJob"]["responses"]["204"]["description"]


def test_a_field_that_the_path_gives_is_not_in_the_body() -> None:
    claim = OPERATIONS["claimJob"]
    body = claim["requestBody"]["content"]["application/json"]["schema"]
    assert list(body["properties"]) == ["miner_id"]
    assert claim["parameters"][0]["name"] == "job_id"


def test_statuses_are_those_of_the_options_and_comments() -> None:
    assert set(OPERATIONS["registerMiner"]["responses"]) >= {"200", "201"}
    assert "204" in OPERATIONS["listAvailableJobs"]["responses"]
    codes = OPERATIONS["claimJob"]["responses"]["409"]["content"]["application/json"]["schema"]
    assert codes["allOf"][1]["properties"]["error_code"]["enum"] == [
        "JOB_ALREADY_CLAIMED",
        "JOB_ALREADY_FINAL",
        "MINER_DRAINED",
    ]
    # "as CompleteJob"
    assert "404" in OPERATIONS["failJob"]["responses"]


def test_a_key_is_optional_where_the_coordinator_is_open() -> None:
    open_document = document(packaged_methods(), is_key_required=False)
    assert {} in open_document["security"]
    assert {} not in DOCUMENT["security"]
    assert OPERATIONS["getHealth"]["security"] == []


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_document_and_page_are_served(prefix: str) -> None:
    backend = FakeBackend(packaged_methods())
    site = Site(openapi_mounts(backend, is_key_required=True), RestApp(backend))
    async with client_of(site) as client:
        served = (await client.get(f"{prefix}/openapi.json")).json()
        assert served["servers"][0]["url"] == (prefix or "/")
        assert served["paths"] == DOCUMENT["paths"]
        page = await client.get(f"{prefix}/docs")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "//" not in page.text.replace("<!doctype html>", "")
        for asset in ("docs.js", "swagger-ui.css", "swagger-ui-bundle.js"):
            assert f'"docs/{asset}"' in page.text
            answer = await client.get(f"{prefix}/docs/{asset}")
            assert answer.status_code == 200
            tag = {"If-None-Match": answer.headers["etag"]}
            again = await client.get(f"{prefix}/docs/{asset}", headers=tag)
            assert (again.status_code, again.content) == (304, b"")
        refused = await client.post(f"{prefix}/openapi.json")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")

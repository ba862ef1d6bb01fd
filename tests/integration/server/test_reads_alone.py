"""Reads beside each other: what is wrong with one is told to its caller alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from aitbc.v1 import (
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
)
from tests.integration.server.harness import PATIENCE_S, Client, coordinator

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ROUNDS = 60
_FILES = (
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
)
_WHOLE = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    data: Path = tmp_path_factory.mktemp("reads")
    async with coordinator(data, ledger_block_seconds=0.1) as client:
        async with client.miner() as miner:
            job_id = await client.submit()
            [assignment] = await miner.assignments(1)
            await miner.complete(assignment.lease_id, "done")
            await client.job(job_id, wait=PATIENCE_S)
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=client.url) as web:
        yield web


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/explorer/receipts?block_height=999999", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/receipts?block_height=9223372036854775807", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/blocks/999999", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/consistency?from_height=999999", 404, "BLOCK_NOT_FOUND"),
        (f"/explorer/transactions/{'0' * 64}", 404, "TRANSACTION_NOT_FOUND"),
        ("/v1/jobs/job-01kfr0000000000000000000aa", 404, "JOB_NOT_FOUND"),
    ],
)
async def test_a_read_that_fails_leaves_those_beside_it_alone(
    client: Client, web: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    job_id = await client.submit(model="nobody-serves-it")
    for _ in range(_ROUNDS):
        bad, good, other = await asyncio.gather(
            web.get(path), web.get(f"/v1/jobs/{job_id}"), web.get("/explorer/blocks")
        )
        assert (bad.status_code, bad.json()["error_code"]) == (status, code)
        assert (good.status_code, good.json()["job_id"]) == (200, job_id)
        assert other.status_code == 200


def numbers() -> Iterator[tuple[str, str]]:
    """Returns (path, field) of each whole number that a GET takes, `{}` being its place."""
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield from _numbers(method)


def _numbers(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    if not rule.get:
        return
    path = rule.get.replace("{job_id}", "job-01kfr0000000000000000000aa")
    path = path.replace("{miner_id}", "miner-1").replace("{webhook_id}", "wh-1")
    for field in method.input_type.fields:
        if field.cpp_type in _WHOLE and not field.is_repeated:
            if f"{{{field.name}}}" in path:
                yield path.replace(f"{{{field.name}}}", "{}"), field.name
            else:
                yield f"{path}?{field.name}={{}}", field.name


async def test_there_are_such_numbers() -> None:
    found = list(numbers())
    assert ("/explorer/receipts?block_height={}", "block_height") in found
    assert ("/explorer/blocks/{}", "height") in found
    assert len(found) > 10


@pytest.mark.parametrize(("path", "field"), list(numbers()))
@pytest.mark.parametrize("number", [10**30, 2**63, -(2**63) - 1, -(10**30), "9" * 4000, "1e300"])
async def test_a_number_that_is_out_of_range_is_refused_by_its_name(
    web: httpx.AsyncClient, path: str, field: str, number: object
) -> None:
    answer = await web.get(path.format(number))
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_ARGUMENT")
    assert answer.json()["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize(("path", "field"), list(numbers()))
@pytest.mark.parametrize("number", [2**63 - 1, 2**31 - 1, -(2**63), -(2**31)])
async def test_a_number_at_the_end_of_its_range_is_answered_for(
    web: httpx.AsyncClient, path: str, field: str, number: int
) -> None:
    # Of a stream, the beginning.
    async with web.stream("GET", path.format(number), timeout=PATIENCE_S) as answer:
        assert answer.status_code in (200, 400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs",
        "/v1/usage",
        "/explorer/blocks",
        "/explorer/transactions",
        "/explorer/receipts",
    ],
)
@pytest.mark.parametrize(
    "token", ["at-" + "9" * 19, "at-" + "9" * 5000, "at--1", "at-1e9", "at-", "9", "at-\u0661"]
)
async def test_a_page_token_that_no_list_gave_is_refused_by_name(
    web: httpx.AsyncClient, path: str, token: str
) -> None:
    answer = await web.get(path, params={"page_token": token})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("page_token: ")


@pytest.mark.parametrize(
    "path", ["/explorer/blocks", "/explorer/transactions", "/explorer/receipts"]
)
async def test_a_page_token_beyond_the_end_gives_a_page(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(path, params={"page_token": "at-" + "9" * 18})
    assert answer.status_code == 200

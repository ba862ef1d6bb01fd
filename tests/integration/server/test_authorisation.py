"""Every method, asked for by everybody: what each caller gets is what the matrix says."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api import annotations_pb2 as http_annotations_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from aitbc.v1 import (
    batches_pb2,
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
)
from aitbc_server.api.errors import from_rpc_error
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import new_key
from aitbc_server.rest.reflection import ReflectedBackend
from aitbc_server.store.key_file import open_keys
from tests.factories import key_record
from tests.integration.server.harness import Client, coordinator
from tests.integration.server.http_calls import http_call
from tests.integration.server.matrix import INVALID, MATRIX, OK, UNAUTHENTICATED, Row
from tests.integration.server.requests import REQUESTS, World

_FILES = (
    batches_pb2,
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
)
METHODS = {
    f"{service.name}.{method.name}": method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
_STATUSES = {
    UNAUTHENTICATED: 401,
    INVALID: 401,
    "PERMISSION_DENIED": 403,
    "MINER_NOT_OWNED": 403,
    "INVALID_ARGUMENT": 400,
}


# Those that have a path of their own over HTTP.
OVER_REST = {
    name
    for name, method in METHODS.items()
    if method.GetOptions().HasExtension(http_annotations_pb2.http)
}

# What each caller sends.
Keys = dict[str, str | None]


def make_keys(data: Path) -> Keys:
    """Stores a key for each caller; returns what each sends."""
    keys: Keys = {
        "client_a": new_key(secrets.randbelow),
        "client_b": new_key(secrets.randbelow),
        "miner_a": new_key(secrets.randbelow),
        "miner_b": new_key(secrets.randbelow),
        "admin": new_key(secrets.randbelow),
        "revoked": new_key(secrets.randbelow),
        "expired": new_key(secrets.randbelow),
    }
    with open_keys(data) as file:
        for name, text in keys.items():
            role = next((one for one in Role if name.startswith(one)), Role.ADMIN)
            expires_us = time.time_ns() // 1000 - 1 if name == "expired" else None
            record = key_record(text, role=role, expires_us=expires_us)
            file.create(record)
            if name == "revoked":
                file.revoke(record.key_id, time.time_ns() // 1000)
    # Right in all but the last character.
    mistyped = (keys["admin"] or "")[:-1]
    return {"no key": None, "bad key": mistyped + "!", **keys}


def expected(row: Row, caller: str, *, is_open: bool) -> str:
    """Returns the outcome for a caller."""
    if row.is_public:
        return row.anonymous
    if caller == "no key":
        return row.anonymous if is_open else UNAUTHENTICATED
    if caller in ("bad key", "revoked", "expired"):
        return INVALID
    outcome: str = getattr(row, caller)
    return outcome


@asynccontextmanager
async def world(data: Path, mode: str) -> AsyncIterator[tuple[Client, World, Keys]]:
    settings = {
        "limit_requests_per_second": 0,
        "limit_pending_jobs": 0,
        "webhook_allow_networks": "127.0.0.0/8",
        "webhook_max_per_owner": 10_000,
        "batch_max_per_owner": 10_000,
    }
    async with coordinator(data, auth=mode, **settings) as client:
        keys = make_keys(data)
        made = World(client, str(keys["client_a"]), str(keys["miner_a"]))
        await made.registered("miner-a")
        await made.registered("miner-c")
        yield client, made, keys


async def served(client: Client) -> set[str]:
    """Returns the names of the methods that the coordinator serves."""
    backend = ReflectedBackend(f"127.0.0.1:{client.coordinator.grpc_port}")
    try:
        full_names = [method.full_name for method in await backend.methods()]
    finally:
        await backend.close()
    ours = {name.removeprefix("aitbc.v1.") for name in full_names if name.startswith("aitbc.v1.")}
    return ours | {"MinerService.Work"}


async def over_grpc(client: Client, method: MethodDescriptor, made: World, key: str | None) -> str:
    request = await REQUESTS[_name(method)](made)
    answers = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = () if key is None else (("x-api-key", key),)
    serialize, parse = type(request).SerializeToString, answers.FromString
    if not method.server_streaming:
        unary = client.channel.unary_unary(path, serialize, parse)
        try:
            await unary(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
        return OK
    stream: Any
    if method.client_streaming:
        stream = client.channel.stream_stream(path, serialize, parse)(metadata=metadata)
    else:
        stream = client.channel.unary_stream(path, serialize, parse)(request, metadata=metadata)
    try:
        if method.client_streaming:
            await stream.write(request)
        elif await stream.initial_metadata():
            # One that is let in says so at once; its first message may be long in coming.
            return OK
        if await stream.read() is grpc.aio.EOF:
            await stream.code()
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    finally:
        stream.cancel()
    return OK


async def over_rest(
    api: httpx.AsyncClient, method: MethodDescriptor, made: World, key: str | None
) -> tuple[str, int]:
    call = http_call(method, await REQUESTS[_name(method)](made))
    headers = {} if key is None else {"X-Api-Key": key}
    async with api.stream(
        call.verb, call.path, params=call.query, json=call.body, headers=headers
    ) as response:
        if response.is_success:
            return OK, response.status_code
        await response.aread()
        return str(response.json()["error_code"]), response.status_code


def _name(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}.{method.name}"


def test_every_method_has_its_row() -> None:
    assert set(MATRIX) == set(METHODS), "say in matrix.py who may call it"
    assert set(REQUESTS) == set(METHODS), "make a request of it in requests.py"


@pytest.mark.parametrize("mode", ["required", "open"])
async def test_each_caller_gets_over_grpc_what_the_matrix_says(tmp_path: Path, mode: str) -> None:
    async with world(tmp_path, mode) as (client, made, keys):
        got, wanted = {}, {}
        for name in sorted(await served(client)):
            for caller, key in keys.items():
                wanted[name, caller] = expected(MATRIX[name], caller, is_open=mode == "open")
                got[name, caller] = await over_grpc(client, METHODS[name], made, key)
        assert differences(got, wanted) == ""


@pytest.mark.parametrize("mode", ["required", "open"])
async def test_each_caller_gets_over_rest_what_the_matrix_says(tmp_path: Path, mode: str) -> None:
    async with (
        world(tmp_path, mode) as (client, made, keys),
        httpx.AsyncClient(base_url=client.url, timeout=60) as api,
    ):
        got, wanted = {}, {}
        for name in sorted(await served(client) & OVER_REST):
            for caller, key in keys.items():
                outcome = expected(MATRIX[name], caller, is_open=mode == "open")
                wanted[name, caller] = outcome
                got[name, caller], status = await over_rest(api, METHODS[name], made, key)
                if got[name, caller] == outcome != OK:
                    assert status == _STATUSES.get(outcome, 404), (name, caller)
        assert differences(got, wanted) == ""


def differences(got: Mapping[tuple[str, str], str], wanted: Mapping[tuple[str, str], str]) -> str:
    return "\n".join(
        f"{method} by {caller}: {outcome} instead of {wanted[method, caller]}"
        for (method, caller), outcome in got.items()
        if outcome != wanted[method, caller]
    )

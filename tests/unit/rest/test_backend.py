from __future__ import annotations

from collections.abc import Mapping

import pytest

from aitbc.v1 import network_pb2
from aitbc_server.api.endpoint import endpoints
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.backend import LocalBackend


class _Network:
    descriptor = network_pb2.DESCRIPTOR.services_by_name["NetworkService"]

    async def get_health(
        self, _: network_pb2.GetHealthRequest, caller: Caller
    ) -> network_pb2.GetHealthResponse:
        return network_pb2.GetHealthResponse(status=caller.owner)

    async def get_stats(
        self, request: network_pb2.GetStatsRequest, caller: Caller
    ) -> network_pb2.GetStatsResponse:
        raise AssertionError


def _authenticate(metadata: Mapping[str, str]) -> Caller:
    if "x-api-key" not in metadata:
        raise InvalidArgument("x-api-key", "is required")
    return Caller(owner=metadata["x-api-key"])


async def test_a_call_is_made_for_its_caller() -> None:
    backend = LocalBackend(endpoints([_Network()]), _authenticate)
    health, _ = await backend.methods()

    response = await backend.call(
        health, network_pb2.GetHealthRequest(), {"x-api-key": "alice", "host": "x"}
    )

    assert response == network_pb2.GetHealthResponse(status="alice")


async def test_a_call_without_a_caller_is_refused() -> None:
    backend = LocalBackend(endpoints([_Network()]), _authenticate)
    health, _ = await backend.methods()

    with pytest.raises(InvalidArgument):
        await backend.call(health, network_pb2.GetHealthRequest(), {})


async def test_the_methods_are_the_same_object_each_time() -> None:
    backend = LocalBackend(endpoints([_Network()]), _authenticate)

    assert await backend.methods() is await backend.methods()

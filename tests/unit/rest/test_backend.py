from __future__ import annotations

from collections.abc import Mapping

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc.v1 import miners_pb2, network_pb2
from aitbc_server.api.endpoint import endpoints
from aitbc_server.domain.caller import ANONYMOUS, Access, Caller
from aitbc_server.domain.errors import Unauthenticated
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


class _Miners:
    descriptor = miners_pb2.DESCRIPTOR.services_by_name["MinerService"]

    async def register_miner(
        self, request: miners_pb2.RegisterMinerRequest, caller: Caller
    ) -> miners_pb2.RegisterMinerResponse:
        raise AssertionError

    async def get_miner(
        self, request: miners_pb2.GetMinerRequest, caller: Caller
    ) -> miners_pb2.Miner:
        return miners_pb2.Miner(miner_id=request.miner_id, agent_version=caller.owner)

    async def list_miners(
        self, request: miners_pb2.ListMinersRequest, caller: Caller
    ) -> miners_pb2.ListMinersResponse:
        raise AssertionError

    async def delete_miner(
        self, request: miners_pb2.DeleteMinerRequest, caller: Caller
    ) -> miners_pb2.DeleteMinerResponse:
        raise AssertionError

    async def drain_miner(
        self, request: miners_pb2.DrainMinerRequest, caller: Caller
    ) -> miners_pb2.Miner:
        raise AssertionError

    async def resume_miner(
        self, request: miners_pb2.ResumeMinerRequest, caller: Caller
    ) -> miners_pb2.Miner:
        raise AssertionError


class _Gate:
    def admit(self, access: Access, metadata: Mapping[str, str], peer: str) -> Caller:
        if access.is_public:
            return Caller()
        if "x-api-key" not in metadata:
            raise Unauthenticated
        return Caller(owner=f"{metadata['x-api-key']} from {peer}")

    def check_live(self, caller: Caller) -> Caller:
        raise AssertionError


def _backend() -> LocalBackend:
    return LocalBackend(endpoints([_Network(), _Miners()]), _Gate())


_GET_MINER = _Miners.descriptor.methods_by_name["GetMiner"]
_GET_HEALTH = _Network.descriptor.methods_by_name["GetHealth"]


async def _call(method: MethodDescriptor, request: Message, headers: Mapping[str, str]) -> Message:
    backend = _backend()
    caller = backend.admit(method, headers, "192.0.2.1")
    return await backend.call(method, request, headers, caller)


async def test_a_call_is_made_for_its_caller() -> None:
    asked = miners_pb2.GetMinerRequest(miner_id="m")

    response = await _call(_GET_MINER, asked, {"x-api-key": "alice", "host": "x"})

    assert response == miners_pb2.Miner(miner_id="m", agent_version="alice from 192.0.2.1")


async def test_a_call_without_a_caller_is_refused_before_there_is_a_request() -> None:
    with pytest.raises(Unauthenticated):
        _backend().admit(_GET_MINER, {}, "192.0.2.1")


async def test_a_public_method_is_for_anybody() -> None:
    response = await _call(_GET_HEALTH, network_pb2.GetHealthRequest(), {})

    assert response == network_pb2.GetHealthResponse(status=ANONYMOUS)


async def test_the_methods_are_the_same_object_each_time() -> None:
    backend = _backend()

    assert await backend.methods() is await backend.methods()

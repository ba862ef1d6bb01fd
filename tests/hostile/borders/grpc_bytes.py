"""Bytes on the gRPC port: messages that are nearly right, and frames of HTTP/2 that are not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from aitbc.v1 import (
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
)
from tests.conftest import Launcher
from tests.hostile.borders.mutation import message_of, mutated
from tests.hostile.borders.victim import Attack, watched

_FILES = (
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
)
_SERVICES: list[ServiceDescriptor] = [
    service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
]
METHODS: list[MethodDescriptor] = [method for one in _SERVICES for method in one.methods]
# Streams and waits last.
_PATIENCE_S = 0.3
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
# Nobody has thought of what is answered so.
BROKEN = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}

# Our own library's, when a call was answered while more was sent.
LOCAL = "Internal error from Core"


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """The gRPC port of a coordinator."""
    coordinator = launcher.coordinator()
    async with (
        watched(coordinator) as victim,
        grpc.aio.insecure_channel(coordinator.grpc) as channel,
    ):

        async def attack(rng: random.Random) -> None:
            if rng.random() < 0.2:
                await _frames(rng, coordinator.grpc)
            else:
                await _call(rng, channel)
            await victim.attacked()

        yield attack


async def _call(rng: random.Random, channel: grpc.aio.Channel) -> None:
    method = rng.choice(METHODS)
    data = message_of(rng, method.input_type).SerializeToString()
    if rng.random() < 0.5:
        data = mutated(rng, data)
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = channel.stream_stream(path, lambda sent: sent, lambda got: got)(
        iter([data] * rng.choice((0, 1, 1, 1, 1, 1, 2))), timeout=_PATIENCE_S
    )
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    code, details = await call.code(), await call.details()
    assert code not in BROKEN or details == LOCAL, (path, code, details)


async def _frames(rng: random.Random, address: str) -> None:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(_PREFACE if rng.random() < 0.9 else mutated(rng, _PREFACE))
        for _ in range(rng.randrange(1, 200)):
            body = rng.randbytes(rng.choice((0, 1, 4, 5, 8, 40)))
            stream = rng.choice((0, 1, 1, 3, 2**31 - 1))
            head = bytes((rng.randrange(11), rng.choice((0, 1, 4, 5, 255))))
            if writer.transport.is_closing():
                break
            said = len(body) if rng.random() < 0.95 else rng.randrange(2**24)
            writer.write(said.to_bytes(3, "big") + head + stream.to_bytes(4, "big") + body)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_PATIENCE_S):
                await writer.drain()
                while await reader.read(65_536):
                    pass
    finally:
        writer.transport.abort()

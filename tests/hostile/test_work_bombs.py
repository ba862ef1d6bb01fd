"""A miner's messages are counted before they are parsed, whatever a miner puts into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc, miners_pb2_grpc, work_pb2
from aitbc_server.api.errors import from_rpc_error
from tests.e2e.keys import create_key
from tests.hostile.victim import MIB, cost_of
from tests.integration.server.harness import FakeMiner

WORK = "/aitbc.v1.MinerService/Work"
HELLO = work_pb2.MinerMessage(
    hello=work_pb2.Hello(
        miner_id="hostile", models=["m"], capacity=work_pb2.Capacity(max_outstanding_jobs=1)
    )
).SerializeToString()
SIZE = 8 * MIB - 64
# Of one message, tags by their fields' numbers.
IN_HELLO, IN_UPDATES = 1, 3
UPDATE, DELTA, COMPLETION, LOGPROBS, TOP, CALLS = 1, 3, 4, 4, 3, 7


def wrapped(content: bytes, *fields: int) -> bytes:
    """Returns the content within these fields, the outermost first."""
    for field in reversed(fields):
        length, size = b"", len(content)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        content = bytes([field << 3 | 2]) + length + bytes([size]) + content
    return content


def empty(field: int, count: int = SIZE // 2) -> bytes:
    return bytes([field << 3 | 2, 0]) * count


MESSAGES = "messages"
BOMBS = {
    "updates": (
        wrapped(empty(UPDATE), IN_UPDATES),
        "updates.updates: must have at most 100000 items",
    ),
    "tokens": (wrapped(empty(LOGPROBS), IN_UPDATES, UPDATE, DELTA), MESSAGES),
    "others of a token": (wrapped(empty(TOP), IN_UPDATES, UPDATE, DELTA, LOGPROBS), MESSAGES),
    "tokens of many": (
        wrapped(wrapped(empty(LOGPROBS, 400), UPDATE, DELTA) * 9000, IN_UPDATES),
        MESSAGES,
    ),
    "events of one update": (wrapped(empty(DELTA), IN_UPDATES, UPDATE), MESSAGES),
    "calls": (
        wrapped(empty(CALLS), IN_UPDATES, UPDATE, COMPLETION),
        "updates.updates[0].completion.tool_calls: must have at most 128 items",
    ),
    "models": (wrapped(empty(2), IN_HELLO), "hello.models: must have at most 256 items"),
    "leases": (wrapped(empty(5), IN_HELLO), "hello.held_leases: must have at most 100000 items"),
    "depth": (wrapped(b"x", IN_UPDATES, UPDATE, DELTA, LOGPROBS, *[TOP] * 20_000), "32 levels"),
    "groups": (b"\x9b\x7d" * (SIZE // 2), "message: is not a MinerMessage"),
    "garbage": (b"\xff" * MIB, "message: is not a MinerMessage"),
    "a short one": (b"\x1a\xff", "message: is not a MinerMessage"),
}


class _Stream:
    """A Work stream of bytes."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._call = channel.stream_stream(WORK, bytes, bytes)(metadata=(("x-api-key", key),))

    async def say(self, data: bytes) -> None:
        await self._call.write(data)

    async def end(self) -> tuple[str, str]:
        """Returns why the coordinator ended it."""
        async with asyncio.timeout(60):
            try:
                while await self._call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason, error.details() or ""
        raise AssertionError("the stream ended without an error")


@pytest.fixture
async def channel(guarded: Coordinator) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(guarded.grpc, options=options) as opened:
        yield opened


@pytest.mark.parametrize("begins", [True, False], ids=["after Hello", "as Hello"])
@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_of_a_miner_is_counted_before_it_is_parsed(
    guarded: Coordinator, channel: grpc.aio.Channel, name: str, begins: bool
) -> None:
    key = create_key(guarded.data, "miner")
    bomb, told = BOMBS[name]
    async with cost_of(guarded) as cost:
        stream = _Stream(channel, key)
        if begins:
            await stream.say(HELLO)
        await stream.say(bomb)
        reason, problem = await stream.end()
    assert reason == "INVALID_ARGUMENT"
    assert told in problem
    assert cost.most_mib < 60
    assert max(cost.health_s) < 1


async def test_eight_bombs_at_once_hold_nobody_up(
    guarded: Coordinator, channel: grpc.aio.Channel
) -> None:
    key = create_key(guarded.data, "miner")
    bomb, _ = BOMBS["tokens"]
    async with cost_of(guarded) as cost:
        streams = [_Stream(channel, key) for _ in range(8)]
        await asyncio.gather(*(stream.say(bomb) for stream in streams))
        ends = await asyncio.gather(*(stream.end() for stream in streams))
    assert {reason for reason, _ in ends} == {"INVALID_ARGUMENT"}
    assert cost.most_mib < 150
    assert max(cost.health_s) < 1


LARGEST = {
    "tokens": wrapped(empty(LOGPROBS, 99_990), IN_UPDATES, UPDATE, DELTA),
    "tokens and a text": wrapped(
        empty(LOGPROBS, 590_000) + wrapped(b"x" * (SIZE - 1_200_000), 1), IN_UPDATES, UPDATE, DELTA
    ),
    "updates": wrapped(empty(UPDATE, 99_990), IN_UPDATES),
}


@pytest.mark.parametrize("name", LARGEST)
async def test_what_is_just_taken_costs_little(
    guarded: Coordinator, channel: grpc.aio.Channel, name: str
) -> None:
    key = create_key(guarded.data, "miner")
    async with cost_of(guarded) as cost:
        stream = _Stream(channel, key)
        await stream.say(HELLO)
        await stream.say(LARGEST[name])
        await stream.say(b"\xff")
        assert (await stream.end())[0] == "INVALID_ARGUMENT"
    assert cost.most_mib < 150
    assert max(cost.health_s) < 1


async def test_an_answer_with_all_its_probabilities_is_no_bomb(
    guarded: Coordinator, channel: grpc.aio.Channel
) -> None:
    miner = (("x-api-key", create_key(guarded.data, "miner")),)
    client = (("x-api-key", create_key(guarded.data, "client")),)
    # With twenty others each, as much as a message holds.
    token = jobs_pb2.TokenLogprob(token="a", logprob=-0.5)  # noqa: S106  # of a text
    token.top.extend([token] * 20)
    # And 4 bytes of each for its place, and for its text.
    count = (8 * MIB - 1000) // (token.ByteSize() + 4)
    answer = work_pb2.Completion(result="a" * count, logprobs=[token] * count, finish_reason="stop")
    jobs = jobs_pb2_grpc.JobServiceStub(channel)
    honest = FakeMiner(miners_pb2_grpc.MinerServiceStub(channel).Work(metadata=miner))
    await honest.call.write(work_pb2.MinerMessage.FromString(HELLO))
    await honest.expect("welcome")
    request = jobs_pb2.SubmitJobRequest(prompt="p", model="m")
    await jobs.SubmitJob(request, metadata=client)
    [assignment] = await honest.assignments()
    update = work_pb2.Update(lease_id=assignment.lease_id, completion=answer)
    await honest.send(updates=work_pb2.Updates(updates=[update]))
    [ack] = (await honest.expect("acks")).acks.acks
    assert ack.lease_id == assignment.lease_id
    honest.call.cancel()

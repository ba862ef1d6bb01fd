from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import ExitStack

import pytest

from aitbc_server.api.peers import Peer
from aitbc_server.api.unfinished import Sender, Unfinished

EACH, MESSAGE = 1_000_000, 400_000
PEERS = [Peer("192.0.2.1", port) for port in range(1, 5)]


class Streams:
    """Streams of one account, one for each connection, and what the system says of these."""

    def __init__(self, stack: ExitStack) -> None:
        self.received = dict.fromkeys(PEERS, 7)
        self.ended: list[Peer] = []
        self.unfinished = Unfinished(self._received, each=EACH, message_bytes=MESSAGE)
        self._stack = stack

    def _received(self, peers: Collection[Peer]) -> Mapping[Peer, int]:
        return {peer: self.received[peer] for peer in peers}

    async def open(self, peer: Peer, account: str = "a") -> Sender:
        counted = self.unfinished.counted(peer, account, lambda: self.ended.append(peer))
        sender = self._stack.enter_context(counted)
        await self.unfinished.seen(peer)
        return sender

    async def look(self) -> None:
        await self.unfinished._look()


@pytest.fixture
async def streams() -> Streams:
    stack = ExitStack()
    return Streams(stack)


async def test_who_begins_too_much_loses_the_largest_until_half_is_left(streams: Streams) -> None:
    for peer in PEERS:
        await streams.open(peer)
    for peer, size in zip(PEERS, (390_000, 100_000, 300_000, 350_000), strict=True):
        streams.received[peer] += size
    await streams.look()
    assert streams.ended == [PEERS[0], PEERS[3]]


async def test_what_is_taken_counts_no_longer(streams: Streams) -> None:
    senders = [await streams.open(peer) for peer in PEERS]
    for _ in range(5):
        for peer, sender in zip(PEERS, senders, strict=True):
            streams.received[peer] += MESSAGE + 100
            sender.came(MESSAGE)
            sender.done()
        await streams.look()
    assert streams.ended == []


async def test_a_whole_message_counts_until_it_is_done_with(streams: Streams) -> None:
    senders = [await streams.open(peer) for peer in PEERS]
    for peer, sender in zip(PEERS, senders, strict=True):
        streams.received[peer] += MESSAGE
        sender.came(MESSAGE)
    await streams.look()
    assert len(streams.ended) == 3


async def test_pings_and_windows_add_up_to_nothing(streams: Streams) -> None:
    for peer in PEERS:
        await streams.open(peer)
    for _ in range(1000):
        for peer in PEERS:
            streams.received[peer] += 4000
        await streams.look()
    assert streams.ended == []


async def test_messages_of_other_calls_of_a_connection_are_taken(streams: Streams) -> None:
    for peer in PEERS:
        await streams.open(peer)
        streams.received[peer] += MESSAGE
        streams.unfinished.note(peer, MESSAGE)
    await streams.look()
    assert streams.ended == []


async def test_accounts_do_not_add_up(streams: Streams) -> None:
    for account, peer in zip("aabb", PEERS, strict=True):
        await streams.open(peer, account)
        streams.received[peer] += MESSAGE
    await streams.look()
    assert streams.ended == []


async def test_of_one_connection_those_that_say_nothing_are_ended(streams: Streams) -> None:
    senders = [await streams.open(PEERS[0]) for _ in range(4)]
    await streams.look()
    streams.received[PEERS[0]] += 3 * MESSAGE + 100
    senders[0].came(100)
    senders[0].done()
    await streams.look()
    assert len(streams.ended) == 2
    assert senders[0].is_heard is False


async def test_what_came_before_a_stream_is_none_of_its(streams: Streams) -> None:
    streams.received = dict.fromkeys(PEERS, 10 * EACH)
    await asyncio.gather(*(streams.open(peer) for peer in PEERS))
    await streams.look()
    assert streams.ended == []

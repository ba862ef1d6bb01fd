"""What miners' sessions have sent that is not taken yet: so many bytes of each caller.

gRPC's core holds what has come of a message, and says nothing of it before it is whole. But the
system counts what each connection has received. What of that was not taken as messages, the core
holds.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import structlog

from aitbc_server.api.peers import Peer
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)

_EVERY_S = 0.1
# A look takes no more than this part of the time.
_REST = 50
# Streams that begin within this time are looked at together.
_SOON_S = 0.02
# Beside a message: its heads in gRPC, HTTP/2 and TLS.
_BESIDE_BYTES = 128
# What else may come within a look, such as pings and windows: forgotten with each.
_DRIFT_BYTES = 4096

# Returns the bytes that each of some connections has received, as far as they are there. Blocks.
Received = Callable[[Collection[Peer]], Mapping[Peer, int]]


class Sender:
    """One stream, and what was taken of it."""

    def __init__(self, connection: _Connection, account: str, end: Callable[[], None]) -> None:
        self.account = account
        self.end = end
        self._connection = connection
        # Of the message that is being read.
        self._size = 0
        # Whether it brought a whole message since the last look.
        self.is_heard = True

    def came(self, size: int) -> None:
        """Notes that a message is whole; it counts until it is done with."""
        self.is_heard = True
        self._size = size + _BESIDE_BYTES

    def done(self) -> None:
        """Counts the last message as taken."""
        self._connection.taken += self._size
        self._size = 0


class _Connection:
    def __init__(self) -> None:
        self.senders: set[Sender] = set()
        # Bytes of messages that were taken since the first look, with what comes beside them.
        self.taken = 0
        # What it had received of which nothing is to be taken; None before the first look.
        self.base: int | None = None
        # What the core holds of it.
        self.held = 0

    def look(self, received: int) -> None:
        """Takes note of what it has received in all."""
        if self.base is None:
            self.base, self.taken = received, 0
        held = received - self.base - self.taken
        if held < _DRIFT_BYTES:
            self.base += held
            held = 0
        self.held = held


class Unfinished:
    """Ends streams of callers of whose messages too much waits for its end. For one event loop."""

    def __init__(self, received: Received, *, each: int, message_bytes: int) -> None:
        """`each`: bytes of one caller; `message_bytes`: what a message may have."""
        self._received = received
        self._each = each
        self._message_bytes = message_bytes
        self._connections: dict[Peer, _Connection] = {}
        self._by_account: defaultdict[str, set[Sender]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        # Looks at what is new.
        self._looking: asyncio.Task[None] | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Begins to look."""
        self._task = supervisor.keep("unfinished-messages", self._look_each)

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            await end([self._task])

    @contextmanager
    def counted(self, peer: Peer, account: str, end: Callable[[], None]) -> Iterator[Sender]:
        """Counts a stream while it lasts; `end` ends it."""
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = _Connection()
        sender = Sender(connection, account, end)
        connection.senders.add(sender)
        self._by_account[account].add(sender)
        try:
            yield sender
        finally:
            sender.done()
            connection.senders.discard(sender)
            if not connection.senders and self._connections.get(peer) is connection:
                del self._connections[peer]
            self._by_account[account].discard(sender)
            if not self._by_account[account]:
                del self._by_account[account]

    async def seen(self, peer: Peer) -> None:
        """Returns when a connection was looked at, before anything of a message is taken of it."""
        connection = self._connections.get(peer)
        while connection is not None and connection.base is None:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_soon())
            await asyncio.shield(self._looking)

    def note(self, peer: Peer, size: int) -> None:
        """Counts a message of another call on a connection as taken."""
        connection = self._connections.get(peer)
        if connection is not None:
            connection.taken += size

    async def _look_soon(self) -> None:
        try:
            await asyncio.sleep(_SOON_S)
            new = [peer for peer, one in self._connections.items() if one.base is None]
            received = await asyncio.to_thread(self._received, new)
            for peer in new:
                if (connection := self._connections.get(peer)) is not None:
                    connection.look(received.get(peer, 0))
        finally:
            self._looking = None

    async def _look_each(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._look()
            await asyncio.sleep(max(_EVERY_S, _REST * (loop.time() - began)))

    async def _look(self) -> None:
        # Who has few streams cannot have too much.
        many = [
            account
            for account, senders in self._by_account.items()
            if len(senders) * self._message_bytes > self._each
        ]
        if not many:
            return
        peers = [
            peer
            for peer, connection in self._connections.items()
            if any(sender.account in many for sender in connection.senders)
        ]
        received = await asyncio.to_thread(self._received, peers)
        held: defaultdict[str, int] = defaultdict(int)
        silent: defaultdict[str, list[tuple[int, Sender]]] = defaultdict(list)
        for peer in peers:
            connection = self._connections.get(peer)
            if connection is None or peer not in received:
                continue
            connection.look(received[peer])
            waiting = [one for one in connection.senders if not one.is_heard] or [
                *connection.senders
            ]
            # By connection is known how much, and by stream who may have it.
            for sender in waiting:
                share = connection.held // len(waiting)
                held[sender.account] += share
                silent[sender.account].append((share, sender))
            for sender in connection.senders:
                sender.is_heard = False
        for account, total in held.items():
            if total > self._each:
                self._end_largest(account, total, silent[account])

    def _end_largest(self, account: str, total: int, senders: list[tuple[int, Sender]]) -> None:
        _log.warning("grpc.too_much_unfinished", account=account, bytes=total)
        for share, sender in sorted(senders, key=lambda one: -one[0]):
            if total <= self._each // 2:
                return
            total -= share
            sender.end()

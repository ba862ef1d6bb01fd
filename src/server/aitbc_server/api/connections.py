"""The connections of the gRPC port: so many of each address.

gRPC's core takes connections by itself, and grpc.aio tells nothing of them. They are files of this
process all the same: the system says from which address each comes, and one that is shut down is to
the core one whose client has gone. So they are looked at once a second, on a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import structlog

from aitbc_server.api.peers import Peer, address_in, plain
from aitbc_server.auth.peers import Network, grouped, parsed_address
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)

# The files of this process, where a system lists them.
_FILES = "/dev/fd"
_EVERY_S = 1.0
# A look takes no more than this part of the time.
_REST = 20
_INTERNET = {socket.AF_INET, socket.AF_INET6}
# Whether the system says what connections have received, and where: tcpi_bytes_received of struct
# tcp_info, in linux/tcp.h.
CAN_COUNT = sys.platform == "linux"
_INFO_BYTES = 136
_RECEIVED_AT = 128
# Kept for other addresses of those that the core takes.
_RESERVE = 64


class Connections:
    """Closes what an address has too many of. Use from one event loop."""

    def __init__(self, *, most: int, each: int, trusted: Sequence[Network] = ()) -> None:
        """`most`: that the core takes; `each`: of one address, but for `trusted` proxies."""
        self._room = max(1, most - _RESERVE)
        self._each = each
        self._trusted = tuple(trusted)
        self._port = 0
        # Of those whose bytes were counted.
        self._numbers: dict[Peer, int] = {}
        self._account = lru_cache(maxsize=4096)(self._account_of)
        self._task: asyncio.Task[None] | None = None

    def start(self, port: int, supervisor: Supervisor) -> None:
        """Begins to look at the connections of a port."""
        self._port = port
        if not Path(_FILES).is_dir():
            _log.warning("grpc.connections_not_counted", remedy="limit them in a proxy")
            return
        self._task = supervisor.keep("grpc-connections", self._look_each)

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            await end([self._task])

    def drop(self, peer: str) -> None:
        """Closes a connection by its name of gRPC, unless it is a proxy's, which others share."""
        host, port = address_in(peer)
        if self._account(host) is not None:
            _log.info("grpc.connection_dropped", address=host)
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, self._shut, frozenset({Peer(host, port)}))

    async def _look_each(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.to_thread(self._look)
            await asyncio.sleep(max(_EVERY_S, _REST * (loop.time() - began)))

    # On a thread

    def received(self, peers: Collection[Peer]) -> dict[Peer, int]:
        """Returns how many bytes connections have received, where the system says so."""
        if not CAN_COUNT:
            return {}
        found: dict[Peer, int] = {}
        self._count(
            peers,
            [number for peer in peers if (number := self._numbers.get(peer)) is not None],
            found,
        )
        if len(found) < len(peers):
            self._numbers.clear()
            self._count(peers, _numbers(), found)
        return found

    def _count(
        self, peers: Collection[Peer], numbers: Iterable[int], found: dict[Peer, int]
    ) -> None:
        asked = frozenset(peers)
        for number, peer, connection in self._open(numbers):
            if peer in asked:
                self._numbers[peer] = number
                with suppress(OSError):
                    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
                    (found[peer],) = struct.unpack_from("=Q", told, _RECEIVED_AT)

    def _look(self) -> None:
        if len(os.listdir(_FILES)) <= min(self._each, self._room):
            return
        by_account: defaultdict[str | None, list[Peer]] = defaultdict(list)
        for _, peer, _ in self._open(_numbers()):
            by_account[self._account(peer.host)].append(peer)
        by_account.pop(None, None)
        most = fair_share(
            {account: len(peers) for account, peers in by_account.items() if account}, self._room
        )
        over: list[Peer] = []
        for account, peers in by_account.items():
            excess = len(peers) - min(most, self._each)
            if excess > 0:
                over += peers[-excess:]
                _log.warning("grpc.too_many_connections", address=account, closed=excess)
        if over:
            self._shut(frozenset(over))

    def _shut(self, peers: frozenset[Peer]) -> None:
        for _, peer, connection in self._open(_numbers()):
            if peer in peers:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _open(self, numbers: Iterable[int]) -> Iterator[tuple[int, Peer, socket.socket]]:
        """Yields those of these files that are connections to the port."""
        for number in numbers:
            with _borrowed(number) as connection:
                if connection is None:
                    continue
                try:
                    if connection.family not in _INTERNET:
                        continue
                    if connection.getsockname()[1] != self._port:
                        continue
                    host, port, *_ = connection.getpeername()
                except OSError:
                    continue  # it listens, or its client has gone
                yield number, Peer(plain(host), port), connection

    def _account_of(self, host: str) -> str | None:
        """Returns whom a connection counts for; None for a trusted proxy."""
        address = parsed_address(host.partition("%")[0])
        if address is None or any(address in network for network in self._trusted):
            return None
        return grouped(address)


@contextmanager
def _borrowed(number: int) -> Iterator[socket.socket | None]:
    """Gives the socket that a file of this process is; None for what is none.

    The file itself, and not another one for it: when a process closes any file of a database, all
    its locks on the database are gone (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        found = socket.socket(fileno=number)
    except OSError:
        yield None
        return
    try:
        yield found
    finally:
        found.detach()


def _numbers() -> list[int]:
    # The lowest that is free is given to a new one: where there are many, the last ones came last.
    return sorted(map(int, os.listdir(_FILES)))


def fair_share(counts: Mapping[str, int], room: int) -> int:
    """Returns how many each may have so that all together have no more than there is room for."""
    left = room
    for place, count in enumerate(sorted(counts.values())):
        share = left // (len(counts) - place)
        if count > share:
            return share
        left -= count
    return room

from __future__ import annotations

import os
import socket
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from aitbc_server.api.connections import Connections, fair_share
from aitbc_server.api.peers import Peer, address_in
from aitbc_server.store.connection import connect


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("ipv4:192.0.2.1:5000", Peer("192.0.2.1", 5000)),
        ("ipv6:%5B2001:db8::1%5D:5000", Peer("2001:db8::1", 5000)),
        ("ipv6:[::1]:5000", Peer("::1", 5000)),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", Peer("192.0.2.1", 5000)),
        ("unix:/run/socket", Peer("", 0)),
        ("ipv4:192.0.2.1:", Peer("", 0)),
        ("", Peer("", 0)),
    ],
)
def test_the_other_end_is_read_as_grpc_names_it(name: str, peer: Peer) -> None:
    assert address_in(name) == peer


@pytest.mark.parametrize(
    ("counts", "room", "share"),
    [
        ({}, 10, 10),
        ({"a": 5}, 10, 10),
        ({"a": 5, "b": 5}, 10, 10),
        ({"a": 100}, 10, 10),
        # Who has few keeps them, and the others share what is left.
        ({"a": 2, "b": 100, "c": 100}, 10, 4),
        ({"a": 1, "b": 2, "c": 100}, 10, 7),
    ],
)
def test_all_together_fit_when_each_has_no_more_than_a_share(
    counts: dict[str, int], room: int, share: int
) -> None:
    assert fair_share(counts, room) == share
    assert sum(min(count, share) for count in counts.values()) <= room


def test_connections_of_proxies_are_not_closed() -> None:
    connections = Connections(most=100, each=1, trusted=[ip_network("127.0.0.0/8")])
    # Of another address it would need a loop, to close it beside.
    connections.drop("ipv4:127.0.0.1:5000")
    with pytest.raises(RuntimeError):
        connections.drop("ipv4:192.0.2.1:5000")


def test_a_look_leaves_no_file_open(tmp_path: Path) -> None:
    connections = Connections(most=1, each=1)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with (
        listener,
        (tmp_path / "file").open("w"),
        socket.create_connection(("127.0.0.1", port)) as one,
    ):
        accepted, _ = listener.accept()
        with accepted:
            connections._port = port
            before = sorted(os.listdir("/dev/fd"))
            one.sendall(b"12345")
            peer = Peer(*one.getsockname())
            for _ in range(3):
                assert connections.received([peer]) == {peer: 5}
                assert connections.received([Peer("192.0.2.1", 1)]) == {}
                connections._look()
            assert sorted(os.listdir("/dev/fd")) == before


def test_a_look_leaves_the_locks_of_databases_alone(tmp_path: Path) -> None:
    """Whoever closes another file of a database than SQLite's own drops all of its locks."""
    database = connect(tmp_path / "a.db")
    database.execute("CREATE TABLE t (x)")
    database.execute("BEGIN IMMEDIATE")
    connections = Connections(most=1, each=1)
    connections._look()
    assert connections.received([Peer("192.0.2.1", 1)]) == {}
    write = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    )
    other = subprocess.run(
        [sys.executable, "-c", write, str(tmp_path / "a.db")], capture_output=True, text=True
    )
    database.close()
    assert "database is locked" in other.stderr

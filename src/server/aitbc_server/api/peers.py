"""The other ends of connections to the gRPC port."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Peer(NamedTuple):
    """The other end of a connection."""

    host: str
    port: int


@lru_cache(maxsize=1024)
def address_in(peer: str) -> Peer:
    """Returns the other end as gRPC names it; no host where it has none, as over a Unix socket."""
    # `ipv4:192.0.2.1:5000` or `ipv6:%5B2001:db8::1%5D:5000`.
    kind, _, address = peer.partition(":")
    host, _, port = address.rpartition(":")
    if not kind.startswith("ipv") or not port.isdecimal():
        return Peer("", 0)
    return Peer(plain(host.removeprefix("%5B").removesuffix("%5D").strip("[]")), int(port))


def plain(host: str) -> str:
    """Returns an address as it is: the core listens for IPv6, and IPv4 is mapped into it."""
    return host.removeprefix("::ffff:")

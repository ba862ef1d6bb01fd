"""What a client may take of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Sizes and times."""

    # Of the request line and the headers.
    head_bytes: int = 32 * 1024
    # Seconds for them to arrive, from the connection or the first byte on.
    head_s: float = 10.0
    # Seconds for a body to arrive.
    body_s: float = 120.0
    # Seconds without a byte of the response taken.
    stall_s: float = 60.0
    # Seconds between a response and the next request. Longer than the idle time of common client
    # pools and proxies, so that they close first: a request sent while the server closes is lost.
    idle_s: float = 75.0
    connections: int = 10_000
    # Of one address, but for trusted proxies.
    connections_each: int = 10_000
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    # Seconds from one sweep to the next.
    sweep_s: float = 1.0

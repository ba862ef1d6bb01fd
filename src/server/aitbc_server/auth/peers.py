"""Which address a call without a key is counted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# One subscriber has at least this much of IPv6.
_IPV6_PREFIX = 64

Network = IPv4Network | IPv6Network


class Peers:
    """Tells callers apart by address, behind proxies too where these are trusted."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        """`trusted`: proxies that append to `X-Forwarded-For` whom they heard."""
        self._trusted = tuple(trusted)
        self._account = lru_cache(maxsize=4096)(self._uncached)

    @property
    def trusts_any(self) -> bool:
        """Whether there are proxies that say who calls."""
        return bool(self._trusted)

    def account(self, peer: str, metadata: Mapping[str, str]) -> str:
        """Returns the account of whoever calls from a peer, with these headers or metadata."""
        forwarded = metadata.get("x-forwarded-for", "") if self._trusted else ""
        return self._account(peer, forwarded)

    def _uncached(self, peer: str, forwarded: str) -> str:
        # From the right: what stands left of the first address that is not trusted, anybody may
        # have written.
        for address in (peer, *reversed(forwarded.split(","))):
            parsed = parsed_address(address.strip())
            if parsed is None:
                break
            peer = grouped(parsed)
            if not any(parsed in network for network in self._trusted):
                break
        return peer


def parsed_address(text: str) -> IPv4Address | IPv6Address | None:
    """Returns the address that a text is, mapped IPv4 as IPv4; None for other texts."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def grouped(address: IPv4Address | IPv6Address) -> str:
    """Returns the part of an address that a caller cannot choose."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)

"""Whose connections there are: so many of each address, and a few kept for this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from aitbc_server.auth.peers import Network, grouped, parsed_address

# Beyond all others: for probes and for whoever administers the machine.
_RESERVE = 16


class Peers:
    """Counts connections by the address that they come from; of IPv6, by its /64 network."""

    def __init__(self, *, most: int, each: int, trusted: Sequence[Network] = ()) -> None:
        """`most`: of all; `each`: of one address, but for `trusted` proxies."""
        self._most = most
        self._each = each
        self._trusted = tuple(trusted)
        self._count: Counter[str] = Counter()
        self._all = 0
        self._known = lru_cache(maxsize=4096)(self._look)

    def come(self, host: str) -> str | None:
        """Counts a connection; returns whom it counts for, or None when there are too many."""
        peer, is_bounded, is_local = self._known(host)
        if is_bounded and self._count[peer] >= self._each:
            return None
        if self._all >= self._most + (_RESERVE if is_local else 0):
            return None
        self._count[peer] += 1
        self._all += 1
        return peer

    def go(self, peer: str) -> None:
        """Counts a connection no longer."""
        self._all -= 1
        if self._count[peer] > 1:
            self._count[peer] -= 1
        else:
            del self._count[peer]

    def _look(self, host: str) -> tuple[str, bool, bool]:
        address = parsed_address(host)
        if address is None:
            return host, False, True
        is_trusted = any(address in network for network in self._trusted)
        return grouped(address), not is_trusted, address.is_loopback

"""Keeps messages from going where only this machine may: the guard against request forgery.

A webhook's URL comes from a client, and the coordinator stands where the client does not. So a name
is resolved here, at every attempt, its addresses are checked, and the connection goes to the very
address that was checked. Refused is what is not public, and everything that leads elsewhere than it
says: IPv4 within IPv6 in each of its forms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
# Returns the addresses of a name. Raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Beyond what `is_global` says, which differs between versions of Python.
_REFUSED_V4 = [
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # special purposes; metadata at 192.0.0.192
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # metadata, at an address that looks public
    )
]
_GLOBAL_UNICAST_V6 = ip_network("2000::/3")
_REFUSED_V6 = [
    ip_network(text)
    for text in (
        "2001::/23",  # special purposes, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]


class Refused(Exception):
    """A message must not go there. `str(error)` says why, for the webhook's owner."""


class NameNotFound(Exception):
    """A name has no address now."""


class Guard:
    """Says where messages may go."""

    def __init__(
        self,
        *,
        allowed: Sequence[IpNetwork] = (),
        ports: Collection[int] = (80, 443),
        resolve: Resolve,
    ) -> None:
        """`allowed` networks may be reached whatever they are, at any port; others at `ports`."""
        self._allowed = allowed
        self._ports = ports
        self._resolve = resolve

    def check_url(self, text: str) -> httpx.URL:
        """Returns the URL that messages may be posted to, as far as its text tells.

        Raises Refused.
        """
        # Here: a coordinator without webhooks does not wait for an HTTP client to load.
        import httpx

        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise Refused(f"is not a URL: {error}") from None
        if url.scheme not in _DEFAULT_PORTS or not url.host:
            raise Refused("must be a URL that begins with https:// or http://")
        if url.userinfo:
            raise Refused("must not hold a user or password; messages are signed instead")
        if not 0 < target_port(url) < 65536:
            raise Refused(f"has no port {url.port}: give one from 1 to 65535")
        if url.fragment:
            raise Refused("must not have a fragment")
        return url

    async def addresses(self, host: str, port: int) -> list[str]:
        """Returns the addresses of a host at which a message may be posted.

        Raises Refused when none is left, and NameNotFound.
        """
        try:
            found = [str(ip_address(host))]
        except ValueError:
            found = await self._look_up(host, port)
        reasons = {address: self._problem(address, port) for address in found}
        if usable := [address for address, problem in reasons.items() if problem is None]:
            return usable
        # Never which one it has: names of the coordinator's own network are not its owner's to ask.
        raise Refused(f"{host} is not to be reached: {next(iter(reasons.values()))}")

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise NameNotFound(f"{host} has no address")
        return list(dict.fromkeys(found))

    def _problem(self, text: str, port: int) -> str | None:
        address: IpAddress = ip_address(text.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._allowed):
            return None
        if not _is_public(address):
            return "that is not a public address, and its network is not allowed"
        if port not in self._ports:
            return f"port {port} is not allowed"
        return None


def target_port(url: httpx.URL) -> int:
    """Returns the port that a URL leads to."""
    return _DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def _is_public(address: IpAddress) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_UNICAST_V6 and not any(address in network for network in _REFUSED_V6)

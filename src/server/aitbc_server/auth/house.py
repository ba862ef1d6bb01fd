"""Which calls without a key come from this house, and not from a page that a browser shows here.

In open mode whoever reaches the coordinator may use it. A page of any site reaches what its
reader's browser reaches: with requests of its own and, once its name leads to another address, as
if the coordinator were its own server. The browser tells both: by `Origin` and `Sec-Fetch-Site`,
and by `Host`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from aitbc_server.auth.peers import parsed_address
from aitbc_server.domain.caller import Access
from aitbc_server.domain.errors import ForeignPage

# What proxies and content networks add, by which they say for whom they ask.
_FORWARDING = frozenset(
    {
        *("forwarded", "via", "x-forwarded", "x-forwarded-for", "x-forwarded-host"),
        *("x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-server"),
        *("x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for"),
        *("x-envoy-external-address", "x-azure-clientip", "x-appengine-user-ip"),
        *("cf-connecting-ip", "cf-connecting-ipv6", "true-client-ip"),
        *("fastly-client-ip", "fly-client-ip", "do-connecting-ip"),
    }
)
_OWN = frozenset({"none", "same-origin"})
_ANY = "*"


class House:
    """Tells calls from here from those of foreign pages."""

    def __init__(
        self,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        *,
        has_proxies: bool = False,
        is_local: bool = False,
    ) -> None:
        """`hosts`: names that lead here; `origins`: of pages that may call, `*` for all.

        `has_proxies`: whether calls come by proxies that are trusted; `is_local`: whether only
        this machine gets here, so that no other address leads here.
        """
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower() for origin in origins)
        self._has_proxies = has_proxies
        self._is_local = is_local
        self._is_ours = lru_cache(maxsize=1024)(self._named)

    def check(self, access: Access, headers: Mapping[str, str]) -> None:
        """Raises ForeignPage; `headers` have lower-case names, and none are of gRPC."""
        host = headers.get("host")
        if host is not None:
            if not self._is_ours(host):
                raise ForeignPage(
                    f"without a key, the host must be this machine, not {host[:100]!r}: "
                    "AITBC_ALLOWED_HOSTS names others"
                )
            if not (self._has_proxies or _FORWARDING.isdisjoint(headers)):
                name = min(_FORWARDING & headers.keys())
                raise ForeignPage(f"without a key, no {name} is taken")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None and site is None:
            return
        if access.is_for_programs:
            raise ForeignPage("a page needs a key for this")
        if origin is not None and (_ANY in self._origins or origin.lower() in self._origins):
            return
        is_own = origin is None or (host and origin.lower().partition("://")[2] == host.lower())
        if not is_own or (site is not None and site not in _OWN):
            raise ForeignPage(
                "without a key, pages of other sites may not call: AITBC_CORS_ORIGINS names those "
                "that may"
            )

    def _named(self, host: str) -> bool:
        host = host.lower()
        name = _without_port(host)
        if name in self._hosts or host in self._hosts:
            return True
        if name == "localhost" or name.endswith(".localhost"):
            return True
        # No page can have an address that leads elsewhere for a name of its own.
        address = parsed_address(name)
        return address is not None and (address.is_loopback or not self._is_local)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")

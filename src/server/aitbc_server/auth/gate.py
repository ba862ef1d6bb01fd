"""The one place where calls are let in: unary and streaming, gRPC and REST alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from aitbc_server.auth.buckets import Buckets
from aitbc_server.auth.house import House
from aitbc_server.auth.keyring import Keyring
from aitbc_server.auth.peers import Peers
from aitbc_server.domain.caller import Access, Caller, Role
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    PermissionDenied,
    Quota,
    RateLimited,
    Unauthenticated,
)
from aitbc_server.domain.limits import Limits

_BEARER = "bearer "


class Gate:
    """Identifies callers, and checks what they may call and how often."""

    def __init__(
        self,
        keyring: Keyring,
        clock: Clock,
        peers: Peers,
        limits: Limits,
        *,
        is_open: bool,
        house: House | None = None,
    ) -> None:
        """`limits` are those of callers without a key; `is_open`: whether these may call at all."""
        self._keyring = keyring
        self._clock = clock
        self._peers = peers
        self._limits = limits
        self._is_open = is_open
        self._house = house or House(has_proxies=peers.trusts_any)
        self._buckets = Buckets()
        self._visitor = lru_cache(maxsize=4096)(self._new_visitor)

    def admit(self, access: Access, metadata: Mapping[str, str], peer: str) -> Caller:
        """Returns who calls; `metadata` has lower-case names, `peer` is the address of the caller.

        Raises Unauthenticated, InvalidApiKey, PermissionDenied, ForeignPage and RateLimited.
        """
        try:
            caller = self._identify(access, metadata, peer)
        except Unauthenticated:
            # Guesses are calls too, of whoever makes them.
            self._count(self._visitor(self._peers.account(peer, metadata)))
            raise
        if not access.is_unlimited:
            self._count(caller)
        if caller.role is not None and not access.admits(caller.role):
            raise PermissionDenied(_needs(access, caller.role))
        return caller

    def check_live(self, caller: Caller) -> Caller:
        """Returns the caller of a call that lasts as its key is now.

        Raises InvalidApiKey when that is no longer valid.
        """
        return caller if caller.key_id is None else self._keyring.check_live(caller.key_id)

    def _identify(self, access: Access, metadata: Mapping[str, str], peer: str) -> Caller:
        text = None if access.is_public else key_in(metadata)
        if text is not None:
            return self._keyring.find(text).caller
        # Nobody is an admin without saying so, not even on loopback.
        if access.is_public or (self._is_open and not access.is_for_admins):
            if not access.is_public:
                self._house.check(access, metadata)
            return self._visitor(self._peers.account(peer, metadata))
        raise Unauthenticated

    def _count(self, caller: Caller) -> None:
        rate = caller.limits.requests_per_second
        if not rate:
            return
        size = caller.limits.bucket
        wait_s = self._buckets.take(caller.account, rate, size, self._clock.monotonic())
        if wait_s:
            raise RateLimited(
                f"too many requests: {rate:g} a second are allowed, and {size} at once",
                quota=Quota("requests", size, math.ceil(size / rate)),
                retry_after_s=wait_s,
            )

    def _new_visitor(self, account: str) -> Caller:
        return Caller(account=account, limits=self._limits)


def key_in(metadata: Mapping[str, str]) -> str | None:
    """Returns the key that came with a call, or None; an empty one is none."""
    key = metadata.get("x-api-key")
    if key:
        return key
    authorization = metadata.get("authorization")
    # Other schemes are between the caller and a proxy.
    if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip() or None
    return None


def _needs(access: Access, role: Role) -> str:
    roles = " or ".join(sorted({*access.roles, Role.ADMIN}))
    return f"this call needs a key of role {roles}; the role of this key is {role}"

"""Who makes a call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aitbc_server.domain.addresses import address_of
from aitbc_server.domain.limits import UNLIMITED, Limits

# Owner of what is submitted without a key.
ANONYMOUS = address_of("anonymous")


class Role(StrEnum):
    """What a key is for."""

    #: Submits jobs and sees its own.
    CLIENT = "client"
    #: Takes jobs and answers them.
    MINER = "miner"
    #: Runs the coordinator.
    ADMIN = "admin"


_ADMINS = frozenset({Role.ADMIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The party a call is made for, after authentication."""

    # Address whose jobs the call may see and make.
    owner: str = ANONYMOUS
    # Role of its key; None without one.
    role: Role | None = None
    # Public part of its key; None without one.
    key_id: str | None = None
    # Whom its calls and jobs are counted for: its own address or, without a key, its network's.
    account: str = ANONYMOUS
    limits: Limits = UNLIMITED
    # Models that its miners may serve; none for all. See allowed_models.py.
    models: tuple[str, ...] = ()

    def owns(self, owner: str) -> bool:
        """Says whether what belongs to an address is the caller's to see and to change."""
        return owner == self.owner or self.role is Role.ADMIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may call a method."""

    # Anybody, also where a key is required.
    is_public: bool = False
    # Whether calls are not counted, as those of probes.
    is_unlimited: bool = False
    # Whether no page may call it without a key, not even one of this server's.
    is_for_programs: bool = False
    # Roles whose keys may call it, beside admins; none stands for every key.
    roles: frozenset[Role] = frozenset()

    def admits(self, role: Role) -> bool:
        """Says whether a key of the role may call."""
        return not self.roles or role in self.roles or role is Role.ADMIN

    @property
    def is_for_admins(self) -> bool:
        """Whether only an admin's key may call."""
        return self.roles == _ADMINS

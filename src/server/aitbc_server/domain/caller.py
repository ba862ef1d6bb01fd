"""Who makes a call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aitbc_server.domain.addresses import address_of

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The party a call is made for, after authentication."""

    # Address whose jobs the call may see and make.
    owner: str = ANONYMOUS
    # Role of its key; None without one.
    role: Role | None = None
    # Public part of its key; None without one.
    key_id: str | None = None

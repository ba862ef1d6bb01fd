"""What a miner is, as it described itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aitbc_server.domain.caller import ANONYMOUS, Caller
from aitbc_server.domain.errors import MinerNotOwned


class MinerStatus(StrEnum):
    """Whether a miner takes work."""

    ONLINE = "online"
    DRAINING = "draining"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerRecord:
    """A registered miner. Times are microseconds since the Unix epoch."""

    miner_id: str
    models: tuple[str, ...]
    # Serialised aitbc.v1.GpuInfo, opaque here and in the store; None when the miner gave none.
    gpu_info: bytes | None
    public_key: bytes
    agent_version: str
    registered_us: int
    # Address of the key that registered it first; None when nobody did with a key.
    owner: str | None = None
    # Since when it is given nothing new; None unless it is drained. Registering does not change it.
    drained_us: int | None = None

    def check_owner(self, caller: Caller) -> None:
        """Raises MinerNotOwned unless the miner is the caller's, or nobody's."""
        if self.owner is not None and not caller.owns(self.owner):
            raise MinerNotOwned


def owner_of(known: MinerRecord | None, caller: Caller) -> str | None:
    """Returns whose a miner is once the caller has registered it. Raises MinerNotOwned.

    The first key to register an id owns it. Without a key nobody does: the id stays free.
    """
    if known is not None and known.owner is not None:
        known.check_owner(caller)
        return known.owner
    return None if caller.owner == ANONYMOUS else caller.owner

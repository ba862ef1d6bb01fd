"""What a miner is, as it described itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from aitbc_server.domain.allowed_models import check_allowed, is_allowed
from aitbc_server.domain.caller import ANONYMOUS, Caller
from aitbc_server.domain.errors import InvalidArgument, MinerNotOwned

# Characters of the names of all models of a miner.
_MODELS_BYTES = 16 * 1024


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
    # When it was last heard of, as far as that is stored: to within an hour.
    seen_us: int = 0
    # Whether it has proved its key, and so must do it again in each session.
    has_proved: bool = False

    def check_owner(self, caller: Caller) -> None:
        """Raises MinerNotOwned unless the miner is the caller's, or nobody's."""
        if self.owner is not None and not caller.owns(self.owner):
            raise MinerNotOwned

    def of(self, caller: Caller) -> MinerRecord:
        """Returns the miner with those of its models that the caller's key allows now."""
        if not caller.models:
            return self
        models = tuple(model for model in self.models if is_allowed(caller.models, model))
        return replace(self, models=models)


def check_models(field: str, models: Sequence[str], caller: Caller) -> None:
    """Checks what a miner says that it serves.

    Raises InvalidArgument for names that take more room than a registration may, and
    ModelNotAllowed for those that the caller's key does not name.
    """
    size = sum(map(len, models))
    if size > _MODELS_BYTES:
        raise InvalidArgument(
            field, f"must have {_MODELS_BYTES:,} characters together at most, and has {size:,}"
        )
    check_allowed(caller.models, models)


def owner_of(known: MinerRecord | None, caller: Caller) -> str | None:
    """Returns whose a miner is once the caller has registered it. Raises MinerNotOwned.

    The first key to register an id owns it. Without a key nobody does: the id stays free.
    """
    if known is not None and known.owner is not None:
        known.check_owner(caller)
        return known.owner
    return None if caller.owner == ANONYMOUS else caller.owner

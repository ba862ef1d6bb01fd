"""What a miner is, as it described itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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

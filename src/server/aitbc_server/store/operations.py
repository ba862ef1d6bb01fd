"""The writes of jobs and miners: one operation for each method of the Store that writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aitbc_server.domain.jobs import Begin, Completion, Ending, Submission
from aitbc_server.domain.miners import MinerRecord


@dataclass(frozen=True, slots=True)
class Submit:
    """Stores jobs."""

    submission: Submission


@dataclass(frozen=True, slots=True)
class BeginLeases:
    """pending -> running."""

    leases: Sequence[Begin]


@dataclass(frozen=True, slots=True)
class Complete:
    """running -> completed."""

    completions: Sequence[Completion]


@dataclass(frozen=True, slots=True)
class End:
    """Any other end of a wait or an attempt."""

    endings: Sequence[Ending]


@dataclass(frozen=True, slots=True)
class FlagCancels:
    """Notes requests to cancel."""

    jobs: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Register:
    """Stores a miner."""

    miner: MinerRecord


@dataclass(frozen=True, slots=True)
class Drain:
    """Begins or ends the drain of a miner."""

    miner_id: str
    since_us: int | None

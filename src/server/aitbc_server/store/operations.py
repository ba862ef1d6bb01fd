"""The writes of jobs and miners: one operation for each method of the Store that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aitbc_server.domain.jobs import Begin, Completion, Ending, Submission
from aitbc_server.domain.miners import MinerRecord

# Of the database.
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Submit:
    """Stores jobs."""

    submission: Submission

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes."""
        jobs = self.submission.jobs
        return len(jobs) + sum(len(job.spec) for job in jobs) // PAGE_BYTES


@dataclass(frozen=True, slots=True)
class BeginLeases:
    """pending -> running."""

    leases: Sequence[Begin]

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes."""
        return len(self.leases) // 4


@dataclass(frozen=True, slots=True)
class Complete:
    """running -> completed."""

    completions: Sequence[Completion]

    @property
    def wal_pages(self) -> int:
        """About how many pages it writes."""
        size = sum(len(c.result) + len(c.details) for c in self.completions)
        return len(self.completions) + size // PAGE_BYTES


@dataclass(frozen=True, slots=True)
class End:
    """Any other end of a wait or an attempt."""

    endings: Sequence[Ending]


@dataclass(frozen=True, slots=True)
class FlagCancels:
    """Notes requests to cancel."""

    jobs: Sequence[tuple[str, int, bool]]


@dataclass(frozen=True, slots=True)
class Register:
    """Stores a miner."""

    miner: MinerRecord


@dataclass(frozen=True, slots=True)
class RemoveMiners:
    """Deletes miners."""

    miner_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class NoteMiners:
    """Notes when miners were last heard of."""

    seen_us: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Drain:
    """Begins or ends the drain of a miner."""

    miner_id: str
    since_us: int | None

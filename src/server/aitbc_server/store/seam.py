"""The Store seam: what the coordinator needs of storage, in domain terms and in sets.

What a write changes in memory follows from what became of the write, in its `then`, and never from
a caller that waits: it may go away while the write is under way.

Every write answers only when it is on disk (fsync), and what it answers survives the loss of the
process at any later moment. Writes of one turn of the event loop share one commit. Every method
raises StorageUnavailable when the storage cannot be reached; then nothing was written.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aitbc_server.domain.jobs import (
    Begin,
    Completion,
    Ending,
    JobPage,
    JobRecord,
    JobStatus,
    LiveRecord,
    OldJobs,
    Submission,
    Submitted,
    Totals,
)
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.domain.times import ALWAYS, Span


class Store(Protocol):
    """Jobs and miners, durably. Futures rather than coroutines: nothing is lost with a caller."""

    def submit(
        self, submission: Submission, then: Callable[[Submitted | Exception], None] | None = None
    ) -> Future[Submitted]:
        """Stores the jobs, or finds those that the same request id made before.

        `then` is called with what became of it, whether or not anybody still waits for the future.
        Raises IdempotencyKeyReused.
        """
        ...

    def begin(self, leases: Sequence[Begin]) -> Future[frozenset[str]]:
        """Begins leases on pending jobs; returns the ids of the jobs that took theirs."""
        ...

    def complete(self, completions: Sequence[Completion]) -> Future[frozenset[str]]:
        """Stores results; returns the ids of the jobs whose lease was still the one named."""
        ...

    def end(self, endings: Sequence[Ending]) -> Future[frozenset[str]]:
        """Ends waits and attempts without a result; returns the ids of the jobs it applied to."""
        ...

    def flag_cancels(self, jobs: Sequence[tuple[str, int, bool]]) -> Future[None]:
        """Notes cancellations of running jobs; takes (job_id, requested_us, is_abandoned)."""
        ...

    def register(
        self, miner: MinerRecord, then: Callable[[bool | Exception], None] | None = None
    ) -> Future[bool]:
        """Stores a miner, or updates what it said before but for when it first registered.

        False when another owner's registration was first. `then` as for `submit`.
        """
        ...

    def drain(
        self,
        miner_id: str,
        since_us: int | None,
        then: Callable[[Exception | None], None] | None = None,
    ) -> Future[None]:
        """Notes since when a miner is drained, or with None that it is not.

        One that is drained already stays so since then. `then` as for `submit`.
        """
        ...

    def remove_miners(
        self,
        miner_ids: Sequence[str],
        then: Callable[[Exception | None], None] | None = None,
    ) -> Future[None]:
        """Deletes miners. Of one batch, before others are stored. `then` as for `submit`."""
        ...

    def note_miners(self, seen_us: Mapping[str, int]) -> Future[None]:
        """Notes when miners were last heard of (microseconds since the Unix epoch), by id."""
        ...

    def job(self, job_id: str, *, attempts: bool = False) -> Future[JobRecord | None]:
        """Returns a job, with the attempts that ended when they are asked for."""
        ...

    def jobs(
        self,
        owner: str,
        *,
        limit: int,
        status: JobStatus | None = None,
        model: str | None = None,
        before: str | None = None,
        created: Span = ALWAYS,
        texts: bool = True,
    ) -> Future[JobPage]:
        """Returns a page of the owner's jobs, the newest first, from the one before a job id.

        Only those `created` then, and without `texts` neither what was asked nor what was answered.
        It may have fewer than `limit`, even none, and still not be the last.
        """
        ...

    def specs(
        self, job_ids: Sequence[str], *, most_bytes: int | None = None
    ) -> Future[dict[str, bytes]]:
        """Returns what was submitted, by job id; unknown ids are left out.

        In the order asked, at least one, and no more once they have `most_bytes`.
        """
        ...

    def leases(self, job_ids: Sequence[str]) -> Future[dict[str, tuple[JobStatus, str, str]]]:
        """Returns (status, last lease, its miner) by job id, of jobs that ever had a lease."""
        ...

    def live(self) -> Future[list[LiveRecord]]:
        """Returns every job that is not final, the oldest first."""
        ...

    def miners(self) -> Future[list[MinerRecord]]:
        """Returns every miner."""
        ...

    def totals(self) -> Future[Totals]:
        """Returns the counts of final jobs, those that were forgotten included."""
        ...

    def old_jobs(self, before_us: int, *, after: str = "") -> Future[OldJobs]:
        """Returns jobs that became final before a time: the first of those after a job id."""
        ...

    def unkept_jobs(self, before_us: int) -> Future[dict[str, int]]:
        """Returns some of the jobs that are not kept and became final before a time.

        With the bytes of their texts, those that ended first first.
        """
        ...

    def forget(self, job_ids: Sequence[str]) -> Future[frozenset[str]]:
        """Deletes jobs that are final, and all that is kept of them but their receipts.

        Returns their ids. What is deleted may be read in the files until `erase`.
        """
        ...

    def erase(self) -> Future[bool]:
        """Leaves nothing in the files of what was deleted; says whether that could be done now."""
        ...

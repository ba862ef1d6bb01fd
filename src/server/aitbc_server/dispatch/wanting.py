"""Who waits for a job: requests that come with one name share one job, wherever they came in.

A request that no longer waits says so. When none is left, and nobody else reads the job, its answer
would be read by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aitbc_server.dispatch.live import LiveJob
from aitbc_server.domain.jobs import JobStatus


def join(live: Mapping[str, LiveJob], found: Iterable[tuple[str, JobStatus]]) -> str | None:
    """Counts a request for each of the jobs that it found, unless one of them is leaving.

    Returns that one's id: it ends because nobody waited for it, or ended since it was found.
    `found`: the jobs with their statuses on disk.
    """
    joined = []
    for job_id, status in found:
        job = live.get(job_id)
        if (job is None and not status.is_final) or (job is not None and job.is_abandoned):
            return job_id
        if job is not None:
            joined.append(job)
    for job in joined:
        job.wanted += 1
        job.is_forsaken = False
    return None


def leave(job: LiveJob) -> bool:
    """Counts a request off; says whether nobody waits for the job any more."""
    job.wanted = max(0, job.wanted - 1)
    job.is_forsaken = not job.wanted
    # The request's own reading may end a moment later than it says so.
    return is_left(job)


def is_left(job: LiveJob) -> bool:
    """Says whether no request wants a job, and nobody reads it."""
    return job.is_forsaken and not job.readers

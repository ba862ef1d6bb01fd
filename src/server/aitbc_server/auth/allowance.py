"""What a caller may submit beside what it has under way already."""

from __future__ import annotations

from collections.abc import Callable

from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import Quota, TooManyJobs

# When to ask again: jobs end one by one, and nobody knows when the next will.
_RETRY_S = 1.0


class Allowance:
    """Checks submissions against the limits of their callers."""

    def __init__(self, jobs_of: Callable[[str], tuple[int, int]]) -> None:
        """`jobs_of` tells how many jobs of an account are not final, and how many of them wait."""
        self._jobs_of = jobs_of

    def check_jobs(self, caller: Caller, count: int) -> None:
        """Raises TooManyJobs when the caller may not submit so many jobs now."""
        limits = caller.limits
        if not (limits.jobs_in_flight or limits.pending_jobs):
            return
        live, pending = self._jobs_of(caller.account)
        for name, most, now in (
            ("jobs-in-flight", limits.jobs_in_flight, live),
            ("pending-jobs", limits.pending_jobs, pending),
        ):
            if most and now + count > most:
                kind = name.replace("-", " ")
                raise TooManyJobs(
                    f"at most {most} {kind} are allowed, and there are {now}",
                    quota=Quota(name, most),
                    retry_after_s=_RETRY_S,
                )

"""What a caller may submit beside what it has under way, and beside what it used on the day."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import BudgetExhausted, InvalidArgument, Quota, TooManyJobs
from aitbc_server.domain.usage import DAY_US, Spent

# When to ask again: jobs end one by one, and nobody knows when the next will.
_RETRY_S = 1.0
# Owners whose days are remembered; of others they are read again.
_MOST = 10_000


class SpentStore(Protocol):
    """What is needed of storage."""

    def spent(self, owner: str, day: int) -> Future[Spent]:
        """Returns what an owner used on a day."""
        ...


@dataclass(slots=True)
class _Day:
    day: int
    # Jobs submitted on it, those that are being stored included.
    jobs: int


class Allowance:
    """Checks submissions against the limits of their callers."""

    def __init__(
        self,
        jobs_of: Callable[[str], tuple[int, int]],
        usage: SpentStore,
        clock: Clock,
        *,
        soft_percent: int,
    ) -> None:
        """`jobs_of` tells how many jobs of an account are not final, and how many of them wait."""
        self._jobs_of = jobs_of
        self._usage = usage
        self._clock = clock
        self._soft_percent = soft_percent
        self._days: dict[str, _Day] = {}

    def check_jobs(self, caller: Caller, count: int) -> None:
        """Raises TooManyJobs when the caller may not submit so many jobs now.

        Raises InvalidArgument when it may not have so many together at any time.
        """
        limits = caller.limits
        if not (limits.jobs_in_flight or limits.pending_jobs):
            return
        live, pending = self._jobs_of(caller.account)
        for name, most, now in (
            ("jobs-in-flight", limits.jobs_in_flight, live),
            ("pending-jobs", limits.pending_jobs, pending),
        ):
            if most and now + count > most:
                _check_alone(name, most, count)
                kind = name.replace("-", " ")
                raise TooManyJobs(
                    f"at most {most} {kind} are allowed, and there are {now}",
                    quota=Quota(name, most),
                    retry_after_s=_RETRY_S,
                )

    async def spend(self, caller: Caller, count: int) -> bool:
        """Takes jobs out of the caller's budget of the day; says whether little of it is left.

        What is submitted then waits behind the jobs of all others. Raises BudgetExhausted, and
        InvalidArgument when so many are more than a day's. Tokens are counted when jobs are
        completed: those under way may still exceed the budget.
        """
        limits = caller.limits
        now_us = self._clock.wall_us()
        day = now_us // DAY_US
        spent = await self._usage.spent(caller.owner, day)
        today = self._days.get(caller.owner)
        if today is None or today.day != day:
            if len(self._days) >= _MOST:
                self._days.clear()
            today = self._days[caller.owner] = _Day(day, spent.jobs)
        is_low = False
        for name, most, used, wanted in (
            ("jobs-per-day", limits.jobs_per_day, today.jobs, count),
            ("tokens-per-day", limits.tokens_per_day, spent.tokens, 1),
        ):
            if not most:
                continue
            if used + wanted > most:
                _check_alone(name, most, wanted)
                raise BudgetExhausted(
                    f"{used} of {most} {name.replace('-', ' ')} are used up",
                    quota=Quota(name, most, DAY_US // 1_000_000),
                    retry_after_s=((day + 1) * DAY_US - now_us) / 1e6,
                )
            is_low |= used * 100 >= most * self._soft_percent
        today.jobs += count
        return is_low

    def give_back(self, caller: Caller, count: int) -> None:
        """Puts jobs back into the budget that were not stored."""
        today = self._days.get(caller.owner)
        if today is not None:
            today.jobs -= count


def _check_alone(name: str, most: int, count: int) -> None:
    """Raises InvalidArgument for what no wait makes room for."""
    if count > most:
        kind = name.replace("-", " ")
        raise InvalidArgument(
            "jobs",
            f"{count:,} jobs at once are more than the {most:,} {kind} that this caller may have",
        )

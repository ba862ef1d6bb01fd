"""What callers used, by day: UTC, in days since the Unix epoch."""

from __future__ import annotations

from dataclasses import dataclass

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an owner used on one day."""

    # Jobs submitted.
    jobs: int
    # Tokens of completed jobs, prompt and result.
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was used by one group. What is not told apart is 0 or empty."""

    day: int
    owner: str
    model: str
    miner_id: str
    submitted: int
    completed: int
    failed: int
    cancelled: int
    prompt_tokens: int
    completion_tokens: int
    # Amount, as domain/prices.py counts.
    price: int

    @property
    def place(self) -> tuple[int, str, str, str]:
        """Its place in the order of usage."""
        return self.day, self.owner, self.model, self.miner_id


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which usage is asked for. None is no condition."""

    first_day: int
    last_day: int
    owner: str | None = None
    model: str | None = None
    miner_id: str | None = None
    # Address that owns the miners.
    miner_owner: str | None = None
    # What is told apart.
    by_day: bool = True
    by_owner: bool = True
    by_model: bool = True
    by_miner: bool = True
    # The row before the first one.
    after: tuple[int, str, str, str] = (-1, "", "", "")
    limit: int

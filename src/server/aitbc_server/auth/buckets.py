"""Requests per second with a burst: the generic cell rate algorithm (GCRA).

It is a token bucket of which only one number is kept: when the bucket will be full again.
"""

from __future__ import annotations

from operator import itemgetter

# Accounts remembered at most. One whose bucket is full again need not be.
_MOST = 100_000


class Buckets:
    """The bucket of each account."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, account: str, rate: float, size: int, now: float) -> float:
        """Takes one token if there is one; returns 0, or the seconds until there will be."""
        interval = 1.0 / rate
        full_at = max(self._full_at.get(account, now), now) + interval
        wait_s = full_at - now - size * interval
        # A little slack, or the sum of many intervals refuses the last token of a bucket.
        if wait_s > interval / 100:
            return wait_s
        if account not in self._full_at and len(self._full_at) >= self._most:
            self._forget(now)
        self._full_at[account] = full_at
        return 0.0

    def _forget(self, now: float) -> None:
        self._full_at = {account: at for account, at in self._full_at.items() if at > now}
        if len(self._full_at) >= self._most:
            # More callers at once than can be told apart. Those whose buckets are nearly full lose
            # the least; a tenth of them at once, because to find them costs a look at all.
            by_time = sorted(self._full_at.items(), key=itemgetter(1))
            self._full_at = dict(by_time[max(1, self._most // 10) :])

"""How fast miners are, measured on their own jobs: how long one may take that says nothing."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from aitbc_server.dispatch.live import Lease
from aitbc_server.domain.jobs import claim_duration_s

# Jobs that a pace is taken from, and how many make one.
_SAMPLES = 32
_LEAST_SAMPLES = 3
# Miners and models whose pace is remembered.
_REMEMBERED = 10_000
# Bytes that are read while one token is generated: so many at least where the two are not told
# apart, for what is read is read in large batches; and at most, for a prefix that was cached tells
# nothing of the next one.
_LEAST_BYTES = 16
_MOST_BYTES = 64
# Seconds for each byte submitted, at the pace of a slow CPU.
_SLOW_BYTE_S = 0.02
# Tokens in which an answer that streams must show progress: engines flush far more often.
_STREAMED_TOKENS = 256
# Tokens taken for the size of a job that names none: at least so many, and so many times those of
# the longest answer seen.
_UNASKED_TOKENS = 2048
_UNASKED_FACTOR = 4
# Weight of the newest job in the mean duration of a lane's jobs.
_NEWEST = 0.05


class _Sample(NamedTuple):
    """What one job took."""

    # Seconds for each token generated, and for each byte submitted.
    token_s: float
    byte_s: float
    tokens: int
    # Leases that its miner held.
    leases: int
    # Whether it told of its answer as it made it.
    is_streamed: bool


class Pace:
    """One miner's pace at one model."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)

    def add(self, lease: Lease, tokens: int, leases: int, ended_at: float) -> None:
        """Takes in a job that the miner has finished."""
        told_at = lease.told_at or ended_at
        is_streamed = lease.first_at is not None and tokens > lease.first_tokens
        if lease.first_at is not None and is_streamed:
            # It streamed: reading and generating are told apart.
            token_s = (ended_at - lease.first_at) / (tokens - lease.first_tokens)
            byte_s = (lease.first_at - told_at) / max(1, lease.spec_bytes)
        else:
            # All of the time counts for each: too slow rather than too fast.
            token_s = (ended_at - told_at) / max(1, tokens)
            byte_s = (ended_at - told_at) / (lease.spec_bytes + _LEAST_BYTES * tokens + 1)
        byte_s = max(byte_s, token_s / _MOST_BYTES)
        self._samples.append(_Sample(token_s, byte_s, tokens, leases, is_streamed))

    def predicted_s(self, lease: Lease, leases: int) -> float:
        """Returns the longest that the job may be expected to take until it shows progress.

        `leases`: how many its miner holds. By the slowest of its latest jobs; a miner that holds
        more than it did then is taken to serve one after the other.
        """
        tokens = self._tokens_ahead(lease)
        is_streaming = lease.first_at is not None
        size = 0 if is_streaming else lease.spec_bytes
        if len(self._samples) < _LEAST_SAMPLES:
            return claim_duration_s(tokens) + _SLOW_BYTE_S * size
        return max(
            max(1.0, leases / sample.leases) * (tokens * sample.token_s + size * sample.byte_s)
            for sample in self._samples
        )

    def _tokens_ahead(self, lease: Lease) -> int:
        asked = lease.job.max_tokens
        if lease.first_at is not None:
            return min(_STREAMED_TOKENS, max(1, (asked or _STREAMED_TOKENS) - lease.tokens))
        if asked is not None:
            return max(1, asked)
        longest = max((sample.tokens for sample in self._samples), default=0)
        most = max(_UNASKED_TOKENS, _UNASKED_FACTOR * longest)
        is_known = len(self._samples) >= _LEAST_SAMPLES
        if is_known and not any(sample.is_streamed for sample in self._samples):
            # It says nothing until the end, which may be that of the context.
            return max(most, lease.max_model_len)
        return most


class Paces:
    """The paces of miners by model, and how long a lane's jobs take."""

    def __init__(self) -> None:
        self._paces: OrderedDict[tuple[str, str], Pace] = OrderedDict()
        self._mean_s: OrderedDict[str, float] = OrderedDict()

    def of(self, lease: Lease) -> Pace:
        """Returns the pace of a lease's miner at its model."""
        key = lease.miner_id, lease.job.model
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = Pace()
            if len(self._paces) > _REMEMBERED:
                self._paces.popitem(last=False)
        return pace

    def add(self, lease: Lease, tokens: int | None, leases: int, ended_at: float) -> None:
        """Takes in a job that its miner has finished."""
        if lease.told_at is None or not lease.is_measured:
            return
        took_s = ended_at - lease.told_at
        lane = lease.job.lane
        mean_s = self._mean_s.setdefault(lane, took_s)
        self._mean_s[lane] = mean_s + _NEWEST * (took_s - mean_s)
        if len(self._mean_s) > _REMEMBERED:
            self._mean_s.popitem(last=False)
        if tokens:
            self.of(lease).add(lease, tokens, leases, ended_at)

    def mean_s(self, lane: str) -> float | None:
        """Returns how long a lane's jobs take with their miners; None when none was seen."""
        return self._mean_s.get(lane)

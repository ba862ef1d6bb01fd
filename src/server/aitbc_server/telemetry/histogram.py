"""Counts values by size, on the event loop alone: the client's own takes a lock for each."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Histogram(Collector):
    """One histogram without labels."""

    def __init__(self, name: str, words: str, buckets: Sequence[float]) -> None:
        """`buckets`: the largest value of each, in order; one for all others follows."""
        self._name = name
        self._words = words
        self._most = (*buckets, math.inf)
        self._counts = [0] * len(self._most)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect_left(self._most, value)] += 1
        self._sum += value

    def collect(self) -> Iterable[Metric]:
        """Returns what was counted, each bucket with all smaller ones."""
        metric = HistogramMetricFamily(self._name, self._words)
        totals = zip(map(floatToGoString, self._most), accumulate(self._counts), strict=True)
        metric.add_metric([], list(totals), self._sum)
        return [metric]

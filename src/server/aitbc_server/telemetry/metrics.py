"""The metrics: counted where things happen, as cheaply as possible, and gathered when asked for.

Names of models come from callers. So that these cannot fill the memory of whoever collects the
metrics, only the models with most jobs under way have their own label, and the rest share one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aitbc_server import __version__
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.call import Call
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import Begin, Completion, Ending, JobStatus, NewJob, Totals
from aitbc_server.store.seam import Store

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_MOST_MODELS = 50
OTHER_MODELS = "(other)"
_LATENCIES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_COMMITS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_BATCHES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Counted(Protocol):
    """Counts of calls: by method and by how they ended."""

    calls: Counter[tuple[str, str]]


class Metrics:
    """Everything that is measured. It watches the dispatcher and the store."""

    def __init__(
        self, dispatcher: Dispatcher, store: Store, clock: Clock, *, http: Counted, grpc: Counted
    ) -> None:
        self._dispatcher = dispatcher
        self._store = store
        self._clock = clock
        self._http = http
        self._grpc = grpc
        self._retries = 0
        self._failed_commits = 0
        self.registry = CollectorRegistry()
        self._dispatch_latency = Histogram(
            "aitbc_dispatch_latency_seconds",
            "Time from a job's submission until its first lease is stored.",
            buckets=_LATENCIES_S,
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "aitbc_commit_seconds",
            "Time that a group commit takes.",
            buckets=_COMMITS_S,
            registry=self.registry,
        )
        self._commit_operations = Histogram(
            "aitbc_commit_operations",
            "Operations that share a group commit.",
            buckets=_BATCHES,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    async def text(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        try:
            totals = await self._store.totals()
        except StorageUnavailable:
            totals = None
        snapshot = _Snapshot(list(self._state(totals)))
        self.registry.register(snapshot)
        try:
            return generate_latest(self.registry)
        finally:
            self.registry.unregister(snapshot)

    # What is watched

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        """Counts nothing: what was submitted is found among the pending, or the totals."""

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Measures how long jobs waited for their first lease."""
        now_us = self._clock.wall_us()
        observe = self._dispatch_latency.observe
        for begin in begins:
            if begin.attempt == 1:
                observe((now_us - jobs[begin.job_id].created_us) / 1e6)

    def completed(self, completions: Sequence[Completion]) -> None:
        """Counts nothing: the store keeps the totals."""

    def ended(self, endings: Sequence[Ending]) -> None:
        """Counts attempts that did not finish their job."""
        self._retries += sum(ending.status is JobStatus.PENDING for ending in endings)

    def committed(self, operations: int, seconds: float, is_stored: bool) -> None:
        """Measures a group commit."""
        self._commit_seconds.observe(seconds)
        self._commit_operations.observe(operations)
        if not is_stored:
            self._failed_commits += 1

    # What is gathered

    def _state(self, totals: Totals | None) -> Iterator[Metric]:
        yield _gauge("aitbc_build_info", "Version that runs.", ("version",), [((__version__,), 1)])
        yield from self._jobs()
        if totals is not None:
            yield from _ended(totals)
        yield from self._miners()
        yield _counter(
            "aitbc_attempts_retried",
            "Attempts that ended without an end of their job.",
            (),
            [((), self._retries)],
        )
        yield _counter(
            "aitbc_commits_failed",
            "Group commits that the storage refused.",
            (),
            [((), self._failed_commits)],
        )
        for name, words, calls in (
            ("aitbc_http_requests", "HTTP requests to the API", self._http.calls),
            ("aitbc_grpc_calls", "gRPC calls, and Work streams that ended,", self._grpc.calls),
        ):
            label = "status" if calls is self._http.calls else "code"
            yield _counter(
                name, f"{words} by method and {label}.", ("method", label), calls.items()
            )

    def _jobs(self) -> Iterator[Metric]:
        core = self._dispatcher.core
        running = core.leases.by_model
        busiest = heapq.nlargest(_MOST_MODELS, core.live_by_model.items(), key=lambda one: one[1])
        shown = {model for model, _ in busiest}
        counts: Counter[tuple[str, str]] = Counter()
        for model, live in core.live_by_model.items():
            label = model if model in shown else OTHER_MODELS
            counts[label, "running"] += running[model]
            counts[label, "pending"] += live - running[model]
        yield _gauge("aitbc_jobs", "Jobs that are not final.", ("model", "status"), counts.items())
        # Jobs stand in the order in which they came, so that the first without a lease is oldest.
        oldest = next((job for job in core.jobs.values() if job.lease is None), None)
        age_s = 0.0 if oldest is None else (self._clock.wall_us() - oldest.created_us) / 1e6
        yield _gauge(
            "aitbc_queue_age_seconds", "Age of the oldest pending job.", (), [((), max(0.0, age_s))]
        )

    def _miners(self) -> Iterator[Metric]:
        counts = self._dispatcher.registry.counts(self._dispatcher.now())
        rows = [((status.value,), count) for status, count in counts.items()]
        yield _gauge("aitbc_miners", "Registered miners.", ("status",), rows)
        sessions = self._dispatcher.core.sessions
        yield _gauge(
            "aitbc_work_streams", "Work streams that are open.", (), [((), len(sessions.by_miner))]
        )
        yield _counter(
            "aitbc_work_streams_ended",
            "Work streams that ended, by the reason.",
            ("reason",),
            [((reason.value,), count) for reason, count in sessions.closed.items()],
        )


class _Snapshot(Collector):
    """Gives the registry what was gathered before, because it cannot wait."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _ended(totals: Totals) -> Iterator[Metric]:
    yield _counter(
        "aitbc_jobs_ended",
        "Jobs that became final, since the database was made.",
        ("status",),
        [
            (("completed",), totals.completed),
            (("failed",), totals.failed),
            (("cancelled",), totals.cancelled),
        ],
    )
    yield _counter(
        "aitbc_tokens",
        "Tokens of completed jobs, since the database was made.",
        ("kind",),
        [(("prompt",), totals.prompt_tokens), (("completion",), totals.completion_tokens)],
    )


_Rows = Iterable[tuple[Sequence[str], float]]


def _gauge(name: str, words: str, labels: Sequence[str], rows: _Rows) -> Metric:
    metric = GaugeMetricFamily(name, words, labels=labels)
    for values, value in rows:
        metric.add_metric(list(values), value)
    return metric


def _counter(name: str, words: str, labels: Sequence[str], rows: _Rows) -> Metric:
    metric = CounterMetricFamily(name, words, labels=labels)
    for values, value in rows:
        metric.add_metric(list(values), value)
    return metric

"""The metrics: counted where things happen, as cheaply as possible, and gathered when asked for.

Names of models come from callers. So that these cannot fill the memory of whoever collects the
metrics, only the models with most jobs under way have their own label, and the rest share one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aitbc_server import __version__
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.observer import Observer
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import Begin, Ending, JobStatus, Totals
from aitbc_server.store.seam import Store
from aitbc_server.supervisor import Supervisor
from aitbc_server.telemetry import families
from aitbc_server.telemetry.watchdog import LoopWatch
from aitbc_server.webhooks.courier import Courier

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
# Models with a label of their own, and the label of the others.
_MOST_MODELS = 50
OTHER_MODELS = "(other)"


class Counted(Protocol):
    """Counts of calls: by method and by how they ended."""

    calls: Counter[tuple[str, str]]


class CountedBatches(Protocol):
    """Counts of batches."""

    # By how they ended.
    ended_batches: Counter[str]

    @property
    def active(self) -> int:
        """How many have not ended."""
        ...


class Metrics(Observer):
    """Everything that is measured. It watches the dispatcher and the store."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: Store,
        clock: Clock,
        *,
        http: Counted,
        ignored: Counter[tuple[str]],
        grpc: Counted,
        webhooks: Courier,
        batches: CountedBatches,
        loop: LoopWatch,
        supervisor: Supervisor,
    ) -> None:
        self._dispatcher = dispatcher
        self._store = store
        self._clock = clock
        self._http = http
        self._ignored = ignored
        self._grpc = grpc
        self._webhooks = webhooks
        self._batches = batches
        self._loop = loop
        self._supervisor = supervisor
        self._retries = 0
        self._failed_commits = 0
        # The text format has no place for when a series began but one more series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the package has no types here
        self.registry = CollectorRegistry()
        self._dispatch_latency = families.DISPATCH.histogram(self.registry)
        self._commit_seconds = families.COMMIT_S.histogram(self.registry)
        self._commit_operations = families.COMMIT_SIZE.histogram(self.registry)
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

    # What is watched. Submissions are found among the pending, and results in the store's totals.

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Measures how long jobs waited for their first lease."""
        now_us = self._clock.wall_us()
        observe = self._dispatch_latency.observe
        for begin in begins:
            if begin.attempt == 1:
                observe((now_us - jobs[begin.job_id].created_us) / 1e6)

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
        yield families.BUILD.of([((__version__,), 1)])
        yield from self._jobs()
        if totals is not None:
            yield from _ended(totals)
        yield from self._miners()
        yield families.RETRIES.single(self._retries)
        yield families.COMMITS_FAILED.single(self._failed_commits)
        yield families.HTTP.of(self._http.calls.items())
        yield families.IGNORED.of(self._ignored.items())
        yield families.GRPC.of(self._grpc.calls.items())
        outcomes = self._webhooks.outcomes.items()
        yield families.WEBHOOKS.of(((outcome,), count) for outcome, count in outcomes)
        yield families.BATCHES.single(self._batches.active)
        ended = self._batches.ended_batches.items()
        yield families.BATCHES_ENDED.of(((status,), count) for status, count in ended)
        yield from _turns(self._loop)
        yield _restarts(self._supervisor)

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
        yield families.JOBS.of(counts.items())
        # Jobs stand in the order in which they came, so that the first without a lease is oldest.
        oldest = next((job for job in core.jobs.values() if job.lease is None), None)
        age_s = 0.0 if oldest is None else (self._clock.wall_us() - oldest.created_us) / 1e6
        yield families.QUEUE_AGE.single(max(0.0, age_s))

    def _miners(self) -> Iterator[Metric]:
        counts = self._dispatcher.registry.counts(self._dispatcher.now())
        yield families.MINERS.of(((status.value,), count) for status, count in counts.items())
        sessions = self._dispatcher.core.sessions
        yield families.STREAMS.single(len(sessions.by_miner))
        closed = sessions.closed.items()
        yield families.STREAMS_ENDED.of(((reason.value,), count) for reason, count in closed)


class HttpMetrics:
    """What is measured where nothing but HTTP is."""

    def __init__(
        self,
        http: Counted,
        ignored: Counter[tuple[str]],
        loop: LoopWatch,
        supervisor: Supervisor,
    ) -> None:
        self._http = http
        self._ignored = ignored
        self._loop = loop
        self._supervisor = supervisor

    async def text(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = families.BUILD.of([((__version__,), 1)])
        http = families.HTTP.of(self._http.calls.items())
        ignored = families.IGNORED.of(self._ignored.items())
        restarts = _restarts(self._supervisor)
        registry.register(_Snapshot([build, http, ignored, *_turns(self._loop), restarts]))
        return generate_latest(registry)


class _Snapshot(Collector):
    """Gives the registry what was gathered before, because it cannot wait."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _turns(loop: LoopWatch) -> Iterator[Metric]:
    yield families.LOOP_LONGEST.single(loop.longest_s)
    yield families.LOOP_STALLS.single(loop.stalls)


def _restarts(supervisor: Supervisor) -> Metric:
    return families.TASK_RESTARTS.of(((task,), count) for task, count in supervisor.faults.items())


def _ended(totals: Totals) -> Iterator[Metric]:
    yield families.JOBS_ENDED.of(
        [
            (("completed",), totals.completed),
            (("failed",), totals.failed),
            (("cancelled",), totals.cancelled),
        ]
    )
    yield families.JOBS_FORGOTTEN.single(totals.forgotten)
    yield families.TOKENS.of(
        [(("prompt",), totals.prompt_tokens), (("completion",), totals.completion_tokens)]
    )

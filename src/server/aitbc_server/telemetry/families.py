"""What is measured, as a table: the names are a contract with whoever watches them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

# Rows of a family: the values of its labels, and the number.
Rows = Iterable[tuple[Sequence[str], float]]


class Family(NamedTuple):
    """One metric with all values of its labels."""

    name: str
    # `gauge`, `counter` or `histogram`.
    kind: str
    words: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def of(self, rows: Rows) -> Metric:
        """Returns the metric with these numbers."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric = kind(self.name, self.words, labels=self.labels)
        for values, number in rows:
            metric.add_metric(list(values), number)
        return metric

    def single(self, number: float) -> Metric:
        """Returns the metric with one number, which has no labels."""
        return self.of([((), number)])

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """Returns the histogram, to observe what it counts."""
        return Histogram(self.name, self.words, buckets=self.buckets, registry=registry)


_LATENCIES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_COMMITS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_BATCHES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)

BUILD = Family("aitbc_build_info", "gauge", "1, for the version that runs.", ("version",))
JOBS = Family(
    "aitbc_jobs",
    "gauge",
    "Jobs that are not final. The 50 models with most of them have their own label; the others "
    "share `(other)`.",
    ("model", "status"),
)
QUEUE_AGE = Family("aitbc_queue_age_seconds", "gauge", "Age of the oldest pending job.")
JOBS_ENDED = Family(
    "aitbc_jobs_ended",
    "counter",
    "Jobs that became final, since the database was made.",
    ("status",),
)
JOBS_FORGOTTEN = Family(
    "aitbc_jobs_forgotten",
    "counter",
    "Jobs that were deleted after their end, by their clients or for their age, since the database "
    "was made.",
)
TOKENS = Family(
    "aitbc_tokens", "counter", "Tokens of completed jobs, since the database was made.", ("kind",)
)
RETRIES = Family(
    "aitbc_attempts_retried", "counter", "Attempts after which their job went back to its queue."
)
DISPATCH = Family(
    "aitbc_dispatch_latency_seconds",
    "histogram",
    "Time from a job's submission until its first lease is stored.",
    buckets=_LATENCIES_S,
)
BATCHES = Family("aitbc_batches", "gauge", "Batches of files that have not ended.")
BATCHES_ENDED = Family(
    "aitbc_batches_ended",
    "counter",
    "Batches of files that ended: `completed`, `failed` (a wrong file), `expired`, `cancelled`.",
    ("status",),
)
MINERS = Family("aitbc_miners", "gauge", "Registered miners.", ("status",))
STREAMS = Family("aitbc_work_streams", "gauge", "Work streams that are open.")
STREAMS_ENDED = Family(
    "aitbc_work_streams_ended",
    "counter",
    "Work streams that ended: `gone` (broken), `left`, `superseded`, `silent`, `draining`.",
    ("reason",),
)
COMMIT_S = Family(
    "aitbc_commit_seconds", "histogram", "Time that a group commit takes.", buckets=_COMMITS_S
)
COMMIT_SIZE = Family(
    "aitbc_commit_operations",
    "histogram",
    "Operations that share a group commit.",
    buckets=_BATCHES,
)
COMMITS_FAILED = Family(
    "aitbc_commits_failed", "counter", "Group commits that the storage refused."
)
HTTP = Family(
    "aitbc_http_requests",
    "counter",
    "HTTP requests, by the method they call; by the path where it is no method's, such as "
    "`/v1/chat/completions`; empty where there is neither.",
    ("method", "status"),
)
IGNORED = Family(
    "aitbc_openai_ignored_parameters",
    "counter",
    "Requests to OpenAI's endpoints with a parameter that was passed over, by its name; those that "
    "the table of parameters does not have share `(other)`.",
    ("parameter",),
)
GRPC = Family(
    "aitbc_grpc_calls",
    "counter",
    "gRPC calls that ended, by method and code. `Work` is the stream of a miner.",
    ("method", "code"),
)

WEBHOOKS = Family(
    "aitbc_webhook_attempts",
    "counter",
    "Attempts to deliver a webhook, by what became of the delivery: `delivered`, `pending` (to be "
    "tried again) or `failed`.",
    ("outcome",),
)

LOOP_LONGEST = Family(
    "aitbc_loop_longest_turn_seconds",
    "gauge",
    "Longest turn of the event loop in the last minute or two: everybody waits for it.",
)
LOOP_STALLS = Family(
    "aitbc_loop_stalls",
    "counter",
    "Turns of the event loop that took longer than `AITBC_LOOP_WARN_SECONDS`.",
)
TASK_RESTARTS = Family(
    "aitbc_task_restarts",
    "counter",
    "Times that a task of the process broke and was begun anew. The log has each as `task.broke`, "
    "with its trace.",
    ("task",),
)

FAMILIES = (
    JOBS,
    QUEUE_AGE,
    DISPATCH,
    JOBS_ENDED,
    JOBS_FORGOTTEN,
    TOKENS,
    RETRIES,
    MINERS,
    STREAMS,
    STREAMS_ENDED,
    COMMIT_S,
    COMMIT_SIZE,
    COMMITS_FAILED,
    HTTP,
    IGNORED,
    GRPC,
    WEBHOOKS,
    BATCHES,
    BATCHES_ENDED,
    LOOP_LONGEST,
    LOOP_STALLS,
    TASK_RESTARTS,
    BUILD,
)

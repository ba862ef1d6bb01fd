"""Traces that follow a job from its submission to the commit of its result, by OpenTelemetry.

A job outlives the call that submits it, and may outlive the process; so its spans are made when
their ends are known, below the span of the submission. A job that was stored by an earlier process
begins a trace of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aitbc_server import __version__
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.observer import Observer
from aitbc_server.domain.call import Call
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.jobs import Begin, Completion, Ending, JobStatus, NewJob

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Followed:
    """A job whose end is still to come."""

    context: otel_context.Context
    attributes: dict[str, Any]
    # When it began to wait, or its attempt began (microseconds since the Unix epoch).
    since_us: int


class JobTraces(Observer):
    """Watches the dispatcher, and makes the spans of each job."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock
        self._followed: dict[str, _Followed] = {}

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        """Makes the span of the submission: from the request to the commit."""
        now_us = self._clock.wall_us()
        carrier = {"traceparent": call.traceparent} if call.traceparent else {}
        parent = _PROPAGATOR.extract(carrier, otel_context.Context())
        for job in jobs:
            attributes = {"aitbc.job_id": job.job_id, "aitbc.model": job.model}
            span = self._tracer.start_span(
                "job submit", parent, SpanKind.SERVER, attributes, start_time=job.created_us * 1000
            )
            span.end(now_us * 1000)
            context = trace.set_span_in_context(span, otel_context.Context())
            self._followed[job.job_id] = _Followed(context, attributes, now_us)

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Makes the span of the wait."""
        now_us = self._clock.wall_us()
        for begin in begins:
            followed = self._followed.get(begin.job_id)
            if followed is None:
                job = jobs[begin.job_id]
                attributes = {"aitbc.job_id": job.job_id, "aitbc.model": job.model}
                followed = _Followed(otel_context.Context(), attributes, job.created_us)
                self._followed[begin.job_id] = followed
            span = self._span("job queue", followed, followed.since_us, now_us)
            if not trace.get_current_span(followed.context).get_span_context().is_valid:
                followed.context = trace.set_span_in_context(span, followed.context)
            followed.since_us = now_us
            followed.attributes = {
                **followed.attributes,
                "aitbc.miner_id": begin.miner_id,
                "aitbc.attempt": begin.attempt,
            }

    def completed(self, completions: Sequence[Completion]) -> None:
        """Makes the spans of the attempt and of the commit that ended it."""
        now_us = self._clock.wall_us()
        for completion in completions:
            followed = self._followed.pop(completion.job_id, None)
            if followed is not None:
                reported_us = min(max(completion.completed_us, followed.since_us), now_us)
                self._span("job attempt", followed, followed.since_us, reported_us)
                self._span("job commit", followed, reported_us, now_us)

    def ended(self, endings: Sequence[Ending]) -> None:
        """Makes the span of an attempt, or of a wait, that ended without a result."""
        for ending in endings:
            is_final = ending.status is not JobStatus.PENDING
            followed = self._followed.get(ending.job_id)
            if followed is None:
                continue
            name = "job queue" if ending.lease_id is None else "job attempt"
            self._span(name, followed, followed.since_us, ending.ended_us, ending.told_code)
            followed.since_us = ending.ended_us
            if is_final:
                del self._followed[ending.job_id]

    def _span(
        self, name: str, followed: _Followed, start_us: int, end_us: int, error: str = ""
    ) -> trace.Span:
        span = self._tracer.start_span(
            name, followed.context, attributes=followed.attributes, start_time=start_us * 1000
        )
        if error:
            span.set_attribute("aitbc.error_code", error)
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(max(start_us, end_us) * 1000)
        return span


def exporting_provider() -> TracerProvider:
    """Returns what sends spans to the collector that the `OTEL_...` variables name."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    resource = Resource.create(
        {"service.name": "aitbc-coordinator", "service.version": __version__}
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from aitbc_server.telemetry import families


def test_a_histogram_is_told_as_the_clients_own_is() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = families.DISPATCH
    histogram = family.histogram(ours)
    other = Histogram(family.name, family.words, buckets=family.buckets, registry=theirs)
    for value in (0, 0.001, 0.0011, 0.25, 0.3, 60, 1e6):
        histogram.observe(value)
        other.observe(value)

    def lines(registry: CollectorRegistry) -> list[str]:
        told = generate_latest(registry).decode().splitlines()
        # When it began is not told: see Metrics.
        return [line for line in told if "_created" not in line]

    assert lines(ours) == lines(theirs)

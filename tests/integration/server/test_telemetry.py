"""What operators see: metrics, health and traces of a coordinator that works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from aitbc.v1 import jobs_pb2
from aitbc_server.clock import SystemClock
from aitbc_server.telemetry.families import FAMILIES
from aitbc_server.telemetry.metrics import OTHER_MODELS
from aitbc_server.telemetry.traces import JobTraces
from tests.e2e.keys import create_key
from tests.integration.server.harness import Client, coordinator

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(url: str) -> Samples:
    """Returns the samples of /metrics by name and labels."""
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{url}/metrics")
    assert response.status_code == 200, response.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def test_metrics_follow_jobs_miners_commits_and_calls(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        for _ in range(2):
            await client.submit(model="m")
        samples = await scrape(client.url)
        assert value(samples, "aitbc_jobs", model="m", status="pending") == 2
        assert value(samples, "aitbc_queue_age_seconds") > 0
        async with client.miner(window=1) as miner:
            (assignment,) = await miner.assignments()
            samples = await scrape(client.url)
            assert value(samples, "aitbc_jobs", model="m", status="pending") == 1
            assert value(samples, "aitbc_jobs", model="m", status="running") == 1
            assert value(samples, "aitbc_miners", status="online") == 1
            assert value(samples, "aitbc_work_streams") == 1
            await miner.complete(assignment.lease_id)
            await client.job(assignment.job.job_id, wait=20)
        with pytest.raises(grpc.aio.AioRpcError):
            await client.job("nothing")
        async with httpx.AsyncClient(base_url=client.url) as http:
            await http.get("/v1/jobs/nothing")
            await http.get("/api/v1/models")
        samples = await scrape(client.url)
    assert value(samples, "aitbc_jobs_ended_total", status="completed") == 1
    assert value(samples, "aitbc_dispatch_latency_seconds_count") >= 1
    assert value(samples, "aitbc_commit_seconds_count") >= 4
    assert value(samples, "aitbc_commit_operations_sum") >= 4
    assert value(samples, "aitbc_commits_failed_total") == 0
    assert value(samples, "aitbc_grpc_calls_total", method="SubmitJob", code="OK") == 2
    assert value(samples, "aitbc_grpc_calls_total", method="GetJob", code="NOT_FOUND") == 1
    assert value(samples, "aitbc_http_requests_total", method="GetJob", status="404") == 1
    assert value(samples, "aitbc_http_requests_total", method="/v1/models", status="200") == 1


async def test_every_family_is_served_and_nothing_else(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        text = (await http.get("/metrics")).text
    served = {family.name for family in text_string_to_metric_families(text)}
    ours = {name for name in served if not name.startswith("process_")}
    assert ours == {family.name for family in FAMILIES}


async def test_callers_cannot_make_up_labels_without_bound(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        jobs = [jobs_pb2.SubmitJobRequest(prompt="x", model=f"m{n}") for n in range(300)]
        await client.jobs.BatchSubmitJobs(jobs_pb2.BatchSubmitJobsRequest(jobs=jobs))
        async with httpx.AsyncClient(base_url=client.url) as http:
            for n in range(20):
                await http.get(f"/nowhere/{n}")
        samples = await scrape(client.url)
    models = {dict(labels)["model"] for name, labels in samples if name == "aitbc_jobs"}
    assert len(models) == 51
    assert value(samples, "aitbc_jobs", model=OTHER_MODELS, status="pending") == 250
    assert value(samples, "aitbc_http_requests_total", method="", status="404") == 20


async def test_metrics_are_for_admins_where_keys_are_required(tmp_path: Path) -> None:
    admin = create_key(tmp_path, "admin")
    client_key = create_key(tmp_path, "client")
    async with (
        coordinator(tmp_path, auth="required") as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        for key, status in ((None, 401), ("wrong", 401), (client_key, 403), (admin, 200)):
            headers = {} if key is None else {"X-Api-Key": key}
            assert (await http.get("/metrics", headers=headers)).status_code == status


async def test_metrics_without_a_key_are_for_no_page_of_another_site(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        for headers in (
            {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
            {"Host": "8.8.8.8"},
            {"Origin": "http://evil.example"},
            {"X-Real-IP": "192.0.2.1"},
        ):
            refused = await http.get("/metrics", headers=headers)
            assert refused.status_code == 403
            assert refused.json()["error_code"] == "FOREIGN_PAGE"
        assert (await http.get("/metrics")).status_code == 200


async def test_metrics_on_an_address_of_their_own_are_only_there(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", metrics="127.0.0.1:0") as client:
        own = f"http://127.0.0.1:{client.coordinator.metrics_port}"
        assert value(await scrape(own), "aitbc_work_streams") == 0
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{client.url}/metrics")).status_code == 404
            assert (await http.get(f"{own}/health/ready")).status_code == 200
            assert (await http.get(f"{own}/v1/jobs")).status_code == 404


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_a_drain_ends_readiness_and_not_life(tmp_path: Path, prefix: str) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url + prefix) as http,
    ):
        ready = await http.get("/health/ready")
        assert ready.json() == {
            "status": "ok",
            "checks": {"phase": "ok", "store": "ok", "streams": "ok"},
        }
        await client.coordinator.drain()
        ready = await http.get("/health/ready")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
        assert ready.json()["checks"] == {"phase": "the coordinator is draining"}
        assert (await http.get("/health/live")).json() == {"status": "ok"}


async def test_a_request_id_is_given_back_or_made(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        named = await http.get("/v1/jobs", headers={"X-Request-Id": "abc-1"})
        assert named.headers["x-request-id"] == "abc-1"
        for bad in ({}, {"X-Request-Id": "a b"}, {"X-Request-Id": "x" * 129}):
            made = await http.get("/v1/jobs/nothing", headers=bad)
            assert re.fullmatch(r"req-[0-9a-f]+-\d+", made.headers["x-request-id"])
        call = client.jobs.ListJobs(
            jobs_pb2.ListJobsRequest(), metadata=(("x-request-id", "abc-2"),)
        )
        await call
        assert ("x-request-id", "abc-2") in list(await call.trailing_metadata() or ())
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.jobs.GetJob(
                jobs_pb2.GetJobRequest(job_id="x"), metadata=(("x-request-id", "abc-3"),)
            )
        assert ("x-request-id", "abc-3") in list(failed.value.trailing_metadata())


@pytest.mark.parametrize("transport", ["REST", "gRPC"])
async def test_a_trace_follows_a_job_to_its_commit(tmp_path: Path, transport: str) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with coordinator(tmp_path) as client, client.miner(window=1) as miner:
        watched(client, JobTraces(provider.get_tracer("test"), SystemClock()))
        job_id = await _submit_traced(client, transport)
        (first,) = await miner.assignments()
        await miner.fail(first.lease_id)
        await miner.expect("acks")
        (second,) = await miner.assignments()
        await miner.complete(second.lease_id)
        await client.job(job_id, wait=20)
    made = spans.get_finished_spans()
    assert [span.name for span in made] == [
        "job submit",
        "job queue",
        "job attempt",
        "job queue",
        "job attempt",
        "job commit",
    ]
    submitted = span_id(made[0])
    for span in made:
        facts = json.loads(span.to_json())
        assert facts["context"]["trace_id"] == f"0x{TRACE}"
        assert facts["parent_id"] == ("0x00f067aa0ba902b7" if span is made[0] else submitted)
        assert facts["attributes"]["aitbc.job_id"] == job_id
        assert facts["start_time"] <= facts["end_time"]
        assert "hello" not in span.to_json()
    assert not made[2].status.is_ok
    assert dict(made[4].attributes or {})["aitbc.attempt"] == 2


def span_id(span: ReadableSpan) -> str:
    """Returns the id as JSON has it."""
    text: str = json.loads(span.to_json())["context"]["span_id"]
    return text


def watched(client: Client, traces: JobTraces) -> None:
    client.coordinator._dispatcher.observers.add(traces)


async def _submit_traced(client: Client, transport: str) -> str:
    if transport == "gRPC":
        call = client.jobs.SubmitJob(
            jobs_pb2.SubmitJobRequest(prompt="hello", model="m"),
            metadata=(("traceparent", TRACEPARENT),),
        )
        return (await call).job_id
    async with httpx.AsyncClient(base_url=client.url) as http:
        body = {"prompt": "hello", "model": "m"}
        response = await http.post("/v1/jobs", json=body, headers={"traceparent": TRACEPARENT})
        job_id: str = response.json()["job_id"]
        return job_id

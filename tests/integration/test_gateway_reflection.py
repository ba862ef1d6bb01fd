"""The REST layer in front of a real gRPC server whose methods it learns by reflection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha import reflection
from structlog.testing import capture_logs

from aitbc.v1 import (
    jobs_pb2,
    jobs_pb2_grpc,
    miners_pb2,
    miners_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
)
from aitbc_server.api.errors import failure_of, to_status
from aitbc_server.domain import errors
from aitbc_server.domain.caller import Caller
from aitbc_server.rest.errors import CoordinatorUnreachable
from aitbc_server.rest.gateway import run_gateway
from aitbc_server.rest.reflection import ReflectedBackend

JOB = jobs_pb2.Job(
    job_id="job-1",
    status=jobs_pb2.JOB_STATUS_RUNNING,
    created_at=Timestamp(seconds=1769266800, nanos=500_000_000),
    params=jobs_pb2.GenerationParams(temperature=0),
)

Context = grpc.aio.ServicerContext[Any, Any]


class Jobs(jobs_pb2_grpc.JobServiceServicer):
    """Remembers what it was asked, and raises the error that the test sets."""

    def __init__(self) -> None:
        self.request: Any = None
        self.metadata: dict[str, Any] = {}
        self.error: errors.CoordinatorError | None = None

    async def SubmitJob(  # noqa: N802
        self, request: jobs_pb2.SubmitJobRequest, context: Context
    ) -> jobs_pb2.SubmitJobResponse:
        self.request, self.metadata = request, dict(context.invocation_metadata() or ())
        if self.error is not None:
            await context.abort_with_status(to_status(failure_of(self.error)))
        return jobs_pb2.SubmitJobResponse(job_id="job-1", status=jobs_pb2.JOB_STATUS_PENDING)

    async def GetJob(  # noqa: N802
        self, request: jobs_pb2.GetJobRequest, context: Context
    ) -> jobs_pb2.Job:
        self.request = request
        return JOB

    async def ListAvailableJobs(  # noqa: N802
        self, request: jobs_pb2.ListAvailableJobsRequest, context: Context
    ) -> jobs_pb2.ListAvailableJobsResponse:
        return jobs_pb2.ListAvailableJobsResponse()


class Miners(miners_pb2_grpc.MinerServiceServicer):
    async def RegisterMiner(  # noqa: N802
        self, request: miners_pb2.RegisterMinerRequest, context: Context
    ) -> miners_pb2.RegisterMinerResponse:
        updated_at = Timestamp(seconds=1) if request.miner_id == "again" else None
        return miners_pb2.RegisterMinerResponse(miner_id=request.miner_id, updated_at=updated_at)


class Network(network_pb2_grpc.NetworkServiceServicer):
    async def GetHealth(  # noqa: N802
        self, request: network_pb2.GetHealthRequest, context: Context
    ) -> network_pb2.GetHealthResponse:
        return network_pb2.GetHealthResponse(status="ok")


@dataclass
class Coordinator:
    """A coordinator that can go and come back on the same port."""

    jobs: Jobs = field(default_factory=Jobs)
    port: int = 0
    _server: grpc.aio.Server | None = None

    async def start(self, services: Sequence[str] = ("Job", "Miner", "Network")) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        if "Job" in services:
            jobs_pb2_grpc.add_JobServiceServicer_to_server(self.jobs, server)
        if "Miner" in services:
            miners_pb2_grpc.add_MinerServiceServicer_to_server(Miners(), server)  # type: ignore[abstract]  # partly
        if "Network" in services:
            network_pb2_grpc.add_NetworkServiceServicer_to_server(Network(), server)  # type: ignore[abstract]  # partly
        names = [f"aitbc.v1.{name}Service" for name in services]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


@asynccontextmanager
async def gateway(target: str) -> AsyncIterator[httpx.AsyncClient]:
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(
        run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
    )
    port = await asyncio.wait_for(ready, timeout=5)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        stop.set()
        await running


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    coordinator = Coordinator()
    await coordinator.start()
    yield coordinator
    await coordinator.stop()


@pytest.fixture
async def client(coordinator: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(f"127.0.0.1:{coordinator.port}") as client:
        yield client


async def test_a_long_turn_of_a_gateway_is_logged_with_its_call(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = ReflectedBackend.admit

    def slow(self: ReflectedBackend, *args: Any) -> Caller:
        time.sleep(1)
        return admit(self, *args)

    monkeypatch.setattr(ReflectedBackend, "admit", slow)
    with capture_logs() as logs:
        await client.get("/v1/jobs/job-1", headers={"x-request-id": "req-culprit"})
        async with asyncio.timeout(20):
            # Nothing tells that it was told.
            while "loop.stalled" not in {log["event"] for log in logs}:  # noqa: ASYNC110
                await asyncio.sleep(0)
    told = next(log for log in logs if log["event"] == "loop.stalled")
    assert told["request_id"] == "req-culprit"
    assert told["where"].startswith("aitbc_server.rest.")
    assert told["seconds"] > 0.5


async def eventually(ask: Callable[[], Awaitable[httpx.Response]], status: int) -> httpx.Response:
    """Asks until the status comes; the time limit of the test ends what never does."""
    while (response := await ask()).status_code != status:
        pass
    return response


async def test_a_submit_crosses_the_gateway(
    coordinator: Coordinator, client: httpx.AsyncClient
) -> None:
    response = await client.post(
        "/api/v1/jobs",
        json={"prompt": "hello", "model": "llama3.2", "params": {"max_tokens": 256}},
        headers={
            b"X-Api-Key": "kéy".encode(),
            b"Idempotency-Key": b"k",
            b"traceparent": b"00-1-2-01",
        },
    )

    assert (response.status_code, response.json()) == (
        201,
        {"job_id": "job-1", "status": "pending"},
    )
    assert coordinator.jobs.request == jobs_pb2.SubmitJobRequest(
        prompt="hello",
        model="llama3.2",
        params=jobs_pb2.GenerationParams(max_tokens=256),
        request_id="k",
    )
    assert coordinator.jobs.metadata["traceparent"] == "00-1-2-01"
    # A key that metadata cannot carry stays a key, and a wrong one.
    assert coordinator.jobs.metadata["x-api-key"].startswith("k?")


async def test_a_job_is_written_in_our_dialect(
    coordinator: Coordinator, client: httpx.AsyncClient
) -> None:
    response = await client.get("/v1/jobs/job-1?wait=0.5")

    assert coordinator.jobs.request == jobs_pb2.GetJobRequest(job_id="job-1", wait=0.5)
    assert response.json() == {
        "job_id": "job-1",
        "status": "running",
        "created_at": "2026-01-24T15:00:00.500000Z",
        "params": {"temperature": 0.0},
        # Lists and maps are always there.
        "attempts": [],
        "inputs": [],
        "outputs": [],
        "prompt_token_ids": [],
        "token_ids": [],
        "logprobs": [],
        "messages": [],
        "tool_calls": [],
        "tools": [],
        "metadata": {},
    }


async def test_our_options_are_read_from_the_reflected_files(client: httpx.AsyncClient) -> None:
    register = {"miner_id": "m", "capabilities": ["llama3.2"]}

    assert (await client.get("/v1/jobs/available?miner_id=m")).status_code == 204
    assert (await client.post("/v1/miners/register", json=register)).status_code == 201
    again = await client.post("/v1/miners/register", json={**register, "miner_id": "again"})
    assert again.status_code == 200


async def test_an_error_keeps_its_reason_and_its_delay(
    coordinator: Coordinator, client: httpx.AsyncClient
) -> None:
    coordinator.jobs.error = errors.QueueFull(retry_after_s=1.5)

    response = await client.post("/v1/jobs", json={"model": "m"})

    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    assert response.json() == {"detail": "too many jobs are waiting", "error_code": "QUEUE_FULL"}


async def test_a_wrong_field_is_refused_at_the_gateway(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/jobs", json={"params": {"max_token": 1}})

    assert response.status_code == 400
    assert response.json()["detail"].startswith("params.max_token: unknown field")


async def test_a_coordinator_that_is_not_there_is_awaited() -> None:
    coordinator = Coordinator()
    await coordinator.start()
    await coordinator.stop()
    async with gateway(f"127.0.0.1:{coordinator.port}") as client:
        absent = await client.get("/health")
        await coordinator.start()
        present = await eventually(lambda: client.get("/health"), 200)
    await coordinator.stop()

    assert absent.status_code == 503
    assert absent.headers["retry-after"] == "1"
    assert absent.json() == {
        "detail": "the coordinator cannot be reached",
        "error_code": "UNAVAILABLE",
    }
    assert present.json() == {"status": "ok"}


async def test_the_methods_of_a_new_coordinator_are_learnt(
    coordinator: Coordinator, client: httpx.AsyncClient
) -> None:
    await coordinator.stop()
    await coordinator.start(["Network"])
    await eventually(lambda: client.get("/health"), 200)
    assert (await client.get("/v1/jobs/job-1")).status_code == 404

    await coordinator.stop()
    await coordinator.start()
    await eventually(lambda: client.get("/v1/jobs/job-1"), 200)


async def test_a_method_that_went_is_told_and_forgotten(
    coordinator: Coordinator, client: httpx.AsyncClient
) -> None:
    # Declared and reflected, but not implemented here.
    response = await client.get("/v1/stats")

    assert response.status_code == 501
    assert (await client.get("/health")).status_code == 200


async def test_a_server_without_reflection_is_told() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with gateway(f"127.0.0.1:{port}") as client:
        response = await client.get("/health")
    await server.stop(None)

    assert response.status_code == 503
    assert "server reflection" in response.json()["detail"]


async def test_each_that_waits_for_an_unreachable_coordinator_has_an_error_of_its_own() -> None:
    # Nothing listens at port 0.
    backend = ReflectedBackend("127.0.0.1:0")
    first, second = await asyncio.gather(
        backend.methods(), backend.methods(), return_exceptions=True
    )
    await backend.close()
    assert isinstance(first, CoordinatorUnreachable)
    assert isinstance(second, CoordinatorUnreachable)
    assert first is not second

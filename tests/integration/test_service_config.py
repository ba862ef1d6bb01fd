"""A real gRPC client takes the published configurations, and does what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from scripts.processes import ROOT

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc
from tests.unit.test_service_config import CONFIGS

Context = grpc.aio.ServicerContext[Any, Any]
FAILURES = 2


class Flaky(jobs_pb2_grpc.JobServiceServicer):
    """Fails the first calls of each method."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def _fail_first(self, name: str, context: Context) -> None:
        self.calls[name] += 1
        if self.calls[name] <= FAILURES:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")

    async def SubmitJob(  # noqa: N802
        self, request: jobs_pb2.SubmitJobRequest, context: Context
    ) -> jobs_pb2.SubmitJobResponse:
        await self._fail_first("SubmitJob", context)
        return jobs_pb2.SubmitJobResponse(job_id="job-1")

    async def GetJob(self, request: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.Job:  # noqa: N802
        await self._fail_first("GetJob", context)
        return jobs_pb2.Job(job_id="job-1")

    async def CancelJob(  # noqa: N802
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.Job:
        await self._fail_first("CancelJob", context)
        return jobs_pb2.Job(job_id="job-1")

    async def StreamJob(  # noqa: N802
        self, request: jobs_pb2.StreamJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.JobEvent]:
        await self._fail_first("StreamJob", context)
        yield jobs_pb2.JobEvent(text="one")


@pytest_asyncio.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, str]]:
    servicer = Flaky()  # type: ignore[abstract]  # the others are not called
    server = grpc.aio.server()
    jobs_pb2_grpc.add_JobServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(None)


def _channel(address: str, name: str) -> grpc.aio.Channel:
    config = (ROOT / "protos" / "aitbc" / "v1" / name).read_text()
    return grpc.aio.insecure_channel(address, options=[("grpc.service_config", config)])


@pytest.mark.parametrize("name", CONFIGS)
async def test_reads_are_repeated(flaky: tuple[Flaky, str], name: str) -> None:
    servicer, address = flaky
    async with _channel(address, name) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        assert (await stub.GetJob(jobs_pb2.GetJobRequest())).job_id == "job-1"
        stream = stub.StreamJob(jobs_pb2.StreamJobRequest())
        assert [event.text async for event in stream] == ["one"]
    assert servicer.calls == {"GetJob": FAILURES + 1, "StreamJob": FAILURES + 1}


@pytest.mark.parametrize("name", CONFIGS)
async def test_what_changes_something_is_not_repeated(flaky: tuple[Flaky, str], name: str) -> None:
    servicer, address = flaky
    async with _channel(address, name) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="not yet"):
            await jobs_pb2_grpc.JobServiceStub(channel).CancelJob(jobs_pb2.CancelJobRequest())
    assert servicer.calls == {"CancelJob": 1}


@pytest.mark.parametrize(("name", "has_request_ids"), CONFIGS.items())
async def test_a_submission_is_repeated_where_request_ids_make_that_safe(
    flaky: tuple[Flaky, str], name: str, has_request_ids: bool
) -> None:
    servicer, address = flaky
    async with _channel(address, name) as channel:
        call: Callable[[Any], Awaitable[Any]] = jobs_pb2_grpc.JobServiceStub(channel).SubmitJob
        request = jobs_pb2.SubmitJobRequest(request_id="r")
        if has_request_ids:
            assert (await call(request)).job_id == "job-1"
        else:
            with pytest.raises(grpc.aio.AioRpcError, match="not yet"):
                await call(request)
    assert servicer.calls == {"SubmitJob": FAILURES + 1 if has_request_ids else 1}

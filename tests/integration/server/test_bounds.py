"""Every queue is bounded: what is too much is refused with 429, and what was taken goes on."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2, work_pb2
from aitbc_server.api.errors import from_rpc_error
from aitbc_server.dispatch import waiters
from aitbc_server.domain.errors import StorageBusy
from aitbc_server.store.batch import BatchThread
from tests.integration.server.harness import PATIENCE_S, coordinator

# What a channel takes of a message unless it is told otherwise.
MESSAGE_BYTES = 4 * 1024 * 1024
# An HTTP/2 frame: no payload, type 4, no flags, stream 0.
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class Gate:
    """A thread's work that goes on when the test says so."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def run(self, batch: Sequence[Any]) -> Sequence[Any]:
        self.opened.wait(PATIENCE_S)
        return batch


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [
        ({"waiting": 2}, [0, 0]),
        ({"waiting_bytes": 100}, [60, 40]),
        # Alone, even the largest one has its turn.
        ({"waiting_bytes": 100}, [1000]),
    ],
    ids=["operations", "bytes", "one that is too large"],
)
async def test_what_waits_for_the_storage_is_bounded(
    bounds: dict[str, int], sizes: list[int]
) -> None:
    gate = Gate()
    thread = BatchThread("bounded", gate.run, most=8, **bounds)
    running = thread.put("running")
    await asyncio.sleep(0)
    waiting = [thread.put(number, size=size) for number, size in enumerate(sizes)]
    with pytest.raises(StorageBusy):
        thread.put("too much", size=1)
    gate.opened.set()
    assert await asyncio.gather(running, *waiting) == ["running", *range(len(sizes))]
    assert await thread.put("again", size=1) == "again"
    await thread.close()


def refused(call: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> str:
    """Returns the reason of a call that was refused for want of room, and for a while only."""
    failure = from_rpc_error(call.value)
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.retry_after_s
    return failure.reason


async def test_too_many_live_jobs_are_refused_over_grpc_and_rest(tmp_path: Path) -> None:
    async with coordinator(tmp_path, max_jobs=2) as client:
        await client.submit()
        async with httpx.AsyncClient(base_url=client.url) as rest:
            jobs = [{"prompt": "p", "model": "m"}] * 2
            answer = await rest.post("/v1/jobs:batch", json={"jobs": jobs})
            assert answer.status_code == 429
            assert answer.json()["error_code"] == "QUEUE_FULL"
            assert int(answer.headers["Retry-After"]) >= 1
        kept = await client.submit()
        with pytest.raises(grpc.aio.AioRpcError) as call:
            await client.submit()
        assert refused(call) == "QUEUE_FULL"
        # Room comes with the first end.
        await client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=kept))
        await client.submit()


async def test_calls_that_wait_for_an_end_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "MOST_WAITING", 1)
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        first = asyncio.ensure_future(client.job(job_id, wait=30))
        # Calls of one connection are answered in order: when this one is, the first one waits.
        await asyncio.sleep(0)
        await client.job(job_id)
        with pytest.raises(grpc.aio.AioRpcError) as call:
            await client.job(job_id, wait=1)
        assert refused(call) == "TOO_MANY_WAITING"
        cancelled = await client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id))
        assert cancelled.job_id == job_id
        async with asyncio.timeout(PATIENCE_S):
            assert (await first).status == jobs_pb2.JOB_STATUS_CANCELLED
        await client.job(job_id, wait=1)


# Texts that are longest in the one form or in the other, and most of a page's bytes elsewhere.
LONG: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "x" * 901_000},
    "escaped": {"prompt": '"\n' * 400_000},
    "control": {"prompt": "\x01" * 250_000},
    "messages": {"messages": [{"role": "user", "content": ""}] * 1000},
    "tools": {
        "prompt": "x",
        "tools": [
            {"name": f"t{number}", "parameters": '{"a": "' + "b" * 50_000 + '"}'}
            for number in range(18)
        ],
    },
}


@pytest.mark.parametrize("fields", LONG.values(), ids=LONG.keys())
async def test_pages_of_large_jobs_fit_what_clients_take(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    count = 40 if "messages" in fields else 8
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        request = jobs_pb2.SubmitJobRequest(model="m", **fields)
        submitted = [(await client.jobs.SubmitJob(request)).job_id for _ in range(count)]
        found: list[str] = []
        token = ""
        while token or not found:
            # A channel takes 4 MiB unless it is told otherwise.
            page = await client.jobs.ListJobs(jobs_pb2.ListJobsRequest(limit=20, page_token=token))
            told = await http.get("/v1/jobs", params={"limit": 20, "page_token": token})
            assert len(told.content) <= MESSAGE_BYTES
            assert [job["job_id"] for job in told.json()["jobs"]] == [j.job_id for j in page.jobs]
            assert page.jobs
            found += [job.job_id for job in page.jobs]
            token = page.next_page_token
        assert found == submitted[::-1]
        await client.miners.RegisterMiner(
            miners_pb2.RegisterMinerRequest(miner_id="polls", capabilities=["m"])
        )
        available = await client.jobs.ListAvailableJobs(
            jobs_pb2.ListAvailableJobsRequest(miner_id="polls", limit=20)
        )
        told = await http.get("/v1/jobs/available", params={"miner_id": "polls", "limit": 20})
        assert len(told.content) <= MESSAGE_BYTES
        listed = [job.job_id for job in available.jobs]
        assert listed == [job["job_id"] for job in told.json()["jobs"]]
        assert listed == submitted[: len(listed)] != []


async def test_a_job_that_is_larger_than_a_page_is_a_page_alone(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        turn = jobs_pb2.ChatMessage(role="user", content="x" * 1_000_000)
        large = jobs_pb2.SubmitJobRequest(model="m", messages=[turn] * 6)
        ids = [await client.submit()]
        ids += [(await client.jobs.SubmitJob(large)).job_id for _ in range(2)]
        pages: list[list[str]] = []
        token = ""
        while token or not pages:
            told = await http.get("/v1/jobs", params={"page_token": token})
            pages.append([job["job_id"] for job in told.json()["jobs"]])
            token = told.json().get("next_page_token", "")
        assert pages == [[ids[2]], [ids[1]], [ids[0]]]


async def test_lists_are_without_probabilities(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        params = jobs_pb2.GenerationParams(logprobs=0)
        job_id = await client.submit(params=params, tools=[jobs_pb2.Tool(name="f")])
        [assignment] = await miner.assignments()
        completion = work_pb2.Completion(
            result="done",
            tool_calls=[jobs_pb2.ToolCall(id="c", name="f")],
            logprobs=[jobs_pb2.TokenLogprob(token="done", logprob=-0.5)],  # noqa: S106 - a word
        )
        update = work_pb2.Update(lease_id=assignment.lease_id, completion=completion)
        await miner.send(updates=work_pb2.Updates(updates=[update]))
        await miner.expect("acks")
        whole = await client.job(job_id)
        assert whole.logprobs
        [listed] = (await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())).jobs
        assert (listed.result, listed.tool_calls, len(listed.logprobs)) == (
            "done",
            whole.tool_calls,
            0,
        )


async def test_a_stream_without_hello_ends(tmp_path: Path) -> None:
    async with coordinator(tmp_path, lease_seconds=1) as client:
        call = client.miners.Work()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async with asyncio.timeout(PATIENCE_S):
                await call.read()
        failure = from_rpc_error(ended.value)
        assert failure.reason == "SESSION_SILENT"
        assert "Hello" in failure.message


async def test_a_connection_has_so_many_calls_at_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        port = client.coordinator.grpc_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS)
        async with asyncio.timeout(PATIENCE_S):
            settings = await settings_of(reader)
        writer.transport.abort()
    # SETTINGS_MAX_CONCURRENT_STREAMS of https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2
    assert settings[3] == 4_000


async def settings_of(reader: asyncio.StreamReader) -> dict[int, int]:
    """Returns what the server's first HTTP/2 frame says, which are its settings."""
    header = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(header[:3]))
    assert header[3] == 4
    return dict(struct.iter_unpack(">HI", payload))

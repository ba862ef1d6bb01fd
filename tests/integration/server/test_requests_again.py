"""Requests that come again with their key, and requests that wait for a model that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from aitbc.v1 import jobs_pb2
from tests.integration.server.harness import PATIENCE_S, Client, FakeMiner, coordinator

KEY = {"idempotency-key": "once"}
USER = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": USER}


@asynccontextmanager
async def served(
    data: Path, **settings: Any
) -> AsyncIterator[tuple[Client, FakeMiner, httpx.AsyncClient]]:
    async with (
        coordinator(data, **settings) as client,
        client.miner() as miner,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        yield client, miner, http


def ask(http: httpx.AsyncClient, path: str = "/v1/chat/completions", **more: Any) -> Any:
    """Begins a request."""
    return asyncio.create_task(http.post(path, json={**CHAT, **more}, headers=KEY))


def text_of(response: httpx.Response) -> str:
    """Returns the answer of a chat."""
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


async def goes(asking: asyncio.Task[Any], miner: FakeMiner, lease_id: str) -> None:
    """Ends a request from the client's side; its miner is told to stop."""
    asking.cancel()
    [cancellation] = (await miner.expect("cancellations")).cancellations.cancellations
    assert cancellation.lease_id == lease_id


@pytest.mark.parametrize(
    ("path", "more"),
    [("/v1/chat/completions", {}), ("/v1/messages", {"max_tokens": 9})],
)
async def test_a_request_whose_client_went_runs_anew_when_it_comes_again(
    tmp_path: Path, path: str, more: dict[str, Any]
) -> None:
    async with served(tmp_path) as (client, miner, http):
        job_ids = []
        for _ in range(2):
            asking = ask(http, path, **more)
            [assignment] = await miner.assignments()
            job_ids.append(assignment.job.job_id)
            await goes(asking, miner, assignment.lease_id)
            await miner.fail(assignment.lease_id, "CANCELLED", retryable=False)
            job = await client.job(job_ids[-1], wait=10)
            assert (job.status, job.error.code) == (jobs_pb2.JOB_STATUS_CANCELLED, "ABANDONED")
            await miner.expect("acks")
        again = ask(http, path, **more)
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, "hello")
        assert "hello" in (await again).text
        assert assignment.job.job_id not in job_ids
        assert len(set(job_ids)) == 2
        # From then on the key names that one.
        repeated = await ask(http, path, **more)
        assert repeated.headers["x-job-id"] == assignment.job.job_id


async def test_a_request_that_comes_again_while_its_miner_stops_waits_for_the_end(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (_, miner, http):
        asking = ask(http)
        [assignment] = await miner.assignments()
        await goes(asking, miner, assignment.lease_id)
        again = ask(http)
        # It was faster than the cancellation.
        await miner.complete(assignment.lease_id, "hello")
        assert text_of(await again) == "hello"
        assert (await again).headers["x-job-id"] == assignment.job.job_id


async def test_requests_with_one_key_share_a_job_that_the_last_of_them_ends(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, http):
        first = ask(http)
        [assignment] = await miner.assignments()
        job_id = assignment.job.job_id
        async with http.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=KEY
        ) as joined:
            # Streamed or not, it is the same that is asked of the model.
            await miner.say(assignment.lease_id, "hel", 0)
            lines = joined.aiter_lines()
            await anext(lines)
            assert joined.headers["x-job-id"] == job_id
            first.cancel()
            await asyncio.wait({first})
            await miner.complete(assignment.lease_id, "hello", 1)
            rest = [line async for line in lines]
        assert rest[-2:] == ["data: [DONE]", ""]
        assert (await client.job(job_id)).status == jobs_pb2.JOB_STATUS_COMPLETED


async def test_several_answers_run_anew_together(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, http):
        asking = ask(http, n=2)
        one, two = await miner.assignments(2)
        await miner.complete(one.lease_id, "a")
        await miner.expect("acks")
        await goes(asking, miner, two.lease_id)
        await miner.fail(two.lease_id, "CANCELLED", retryable=False)
        await miner.expect("acks")
        again = ask(http, n=2)
        for assignment in await miner.assignments(2):
            await miner.complete(assignment.lease_id, "b")
        assert [one["message"]["content"] for one in (await again).json()["choices"]] == ["b", "b"]


async def test_what_was_cancelled_on_purpose_stays_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, http):
        asking = ask(http)
        [assignment] = await miner.assignments()
        request = jobs_pb2.CancelJobRequest(job_id=assignment.job.job_id)
        cancelling = asyncio.ensure_future(client.jobs.CancelJob(request))
        await miner.expect("cancellations")
        await miner.fail(assignment.lease_id, "CANCELLED", retryable=False)
        await cancelling
        for refused in (await asking, await ask(http)):
            assert refused.status_code == 409
            assert refused.json()["error"]["code"] == "cancelled"


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_the_official_clients_do_not_run_anew_what_was_cancelled_on_purpose(
    tmp_path: Path, name: str
) -> None:
    message: Any = {"role": "user", "content": "hi"}
    async with (
        served(tmp_path) as (client, miner, _),
        openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="x") as one,
        anthropic.AsyncAnthropic(base_url=client.url, api_key="x") as other,
    ):
        asking: asyncio.Future[Any] = asyncio.ensure_future(
            one.chat.completions.create(model="m", messages=[message])
            if name == "openai"
            else other.messages.create(model="m", messages=[message], max_tokens=5)
        )
        [assignment] = await miner.assignments()
        request = jobs_pb2.CancelJobRequest(job_id=assignment.job.job_id)
        cancelling = asyncio.ensure_future(client.jobs.CancelJob(request))
        await miner.expect("cancellations")
        await miner.fail(assignment.lease_id, "CANCELLED", retryable=False)
        await cancelling
        with pytest.raises((openai.ConflictError, anthropic.ConflictError)):
            await asking
        listed = await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())
        assert len(listed.jobs) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_who_waits_for_a_model_that_has_gone_is_told_so(
    tmp_path: Path, path: str, stream: bool
) -> None:
    async with (
        coordinator(
            tmp_path, model_absence_seconds=1, lease_seconds=3, heartbeat_seconds=0.5
        ) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        async with client.miner() as miner:
            asking = ask(http, path, max_tokens=9, stream=stream)
            [assignment] = await miner.assignments()
            if stream:
                await miner.say(assignment.lease_id, "hel", 0)
        answered = await asking
        if not stream:
            assert answered.status_code == (503 if path.endswith("completions") else 529)
        assert "no_miner" in answered.text
        assert "No miner has served the model 'm' for 1 seconds" in answered.text
        job = await client.job(assignment.job.job_id, wait=5)
        assert (job.status, job.error.code) == (jobs_pb2.JOB_STATUS_CANCELLED, "ABANDONED")


async def test_who_waits_for_a_model_that_comes_back_is_answered(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, model_absence_seconds=1) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        async with client.miner() as miner:
            asking = ask(http)
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id)
            await miner.expect("acks")
        async with client.miner("miner-2") as heir:
            [again] = await heir.assignments()
            await heir.complete(again.lease_id, "hello")
            assert text_of(await asking) == "hello"

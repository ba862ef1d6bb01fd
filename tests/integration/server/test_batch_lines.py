"""What is told of a line of a batch, and what is kept of it: as of a live call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from aitbc_server import retention
from aitbc_server.batches.jobs import BatchJobs
from aitbc_server.batches.run import BatchRun
from tests.integration.server.harness import PATIENCE_S, Client, FakeMiner, coordinator
from tests.integration.server.test_deleting_jobs import erased
from tests.integration.server.test_files import ended, upload
from tests.integration.server.test_jobs_not_kept import ANSWERED, gone

CHAT: Any = "/v1/chat/completions"
RESPONSES: Any = "/v1/responses"
HI = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def served(data: Path) -> AsyncIterator[tuple[Client, FakeMiner, openai.AsyncOpenAI]]:
    async with (
        coordinator(data) as client,
        client.miner() as miner,
        openai.AsyncOpenAI(
            base_url=f"{client.url}/v1", api_key="x", timeout=PATIENCE_S, max_retries=0
        ) as api,
    ):
        yield client, miner, api


async def begin(api: openai.AsyncOpenAI, url: Any, *bodies: dict[str, Any]) -> str:
    lines = [
        {"custom_id": str(number), "method": "POST", "url": url, "body": {"model": "m", **body}}
        for number, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    batch = await api.batches.create(
        input_file_id=await upload(api, content), endpoint=url, completion_window="24h"
    )
    return batch.id


async def told(api: openai.AsyncOpenAI, file_ids: Sequence[str | None]) -> dict[str, Any]:
    """Returns what files say of each line that is told in them, by its name."""
    texts = [(await api.files.content(name)).text for name in file_ids if name is not None]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return {line["custom_id"]: line["response"] for line in lines}


async def test_a_line_tells_what_of_it_was_ignored(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        ignored = {"messages": HI, "num_ctx": 7, "tools": [], "bogus": {"a": 1}}
        batch_id = await begin(
            api,
            CHAT,
            ignored,
            {"messages": HI},
            {**ignored, "tool_choice": {"type": "function", "function": {"name": "absent"}}},
            {**ignored, "n": 0},
        )
        for assignment in await miner.assignments(2):
            await miner.complete(assignment.lease_id, ANSWERED)
        batch = await ended(api, batch_id)
        lines = await told(api, (batch.output_file_id, batch.error_file_id))
    statuses = {name: line["status_code"] for name, line in lines.items()}
    assert statuses == {"0": 200, "1": 200, "2": 400, "3": 400}
    headers = {name: line.get("headers") for name, line in lines.items()}
    names = {"x-aitbc-ignored": "num_ctx, bogus"}
    # As live, nothing is told of what could not be read.
    assert headers == {"0": names, "1": None, "2": names, "3": None}


async def test_a_response_that_is_not_to_be_stored_says_so_and_is_gone(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, api):
        batch_id = await begin(api, RESPONSES, {"input": "hi", "store": False}, {"input": "hi"})
        for assignment in await miner.assignments(2):
            await miner.complete(assignment.lease_id, ANSWERED)
        batch = await ended(api, batch_id)
        lines = await told(api, (batch.output_file_id,))
        assert [lines[name]["body"]["store"] for name in "01"] == [False, True]
        await gone(client, lines["0"]["request_id"])
        assert (await client.job(lines["1"]["request_id"])).result == ANSWERED


async def test_its_job_stays_until_its_answer_is_written_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the coordinator is killed before, and after."""
    monkeypatch.setattr(retention, "_UNKEPT_SWEEP_S", 0.05)
    monkeypatch.setattr(retention, "_UNKEPT_S", 0.0)
    monkeypatch.setattr(retention, "_ERASE_S", 0.1)
    may_close = asyncio.Event()
    close = BatchRun._close_ended

    async def wait_and_close(run: BatchRun) -> None:
        await may_close.wait()
        await close(run)

    async def forget(_: BatchJobs, job_ids: Sequence[str]) -> None:
        """The coordinator is not there any more."""

    monkeypatch.setattr(BatchRun, "_close_ended", wait_and_close)
    monkeypatch.setattr(BatchJobs, "forget", forget)
    async with served(tmp_path) as (client, miner, api):
        batch_id = await begin(api, RESPONSES, {"input": "a secret of mine", "store": False})
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, ANSWERED)
        job_id = assignment.job.job_id
        await miner.expect("acks")
        await client.job(job_id, wait=20)
        # Swept after it, and before it could be told.
        other = await client.submit(store=False)
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, ANSWERED)
        await gone(client, other)
        assert (await client.job(job_id)).result == ANSWERED
        may_close.set()
        batch = await ended(api, batch_id)
        lines = await told(api, (batch.output_file_id,))
        assert lines["0"]["body"]["output"][0]["content"][0]["text"] == ANSWERED
        await gone(client, job_id)
        for file_id in (batch.input_file_id, batch.output_file_id):
            await api.files.delete(file_id)
        await erased(tmp_path, "a secret of mine", ANSWERED)

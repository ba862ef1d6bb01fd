"""Hints of clients are kept as far as there is room, and never refuse a request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from tests.integration.server.test_openai_tasks import served

HI = [{"role": "user", "content": "hi"}]
LONG = f"\0{'é' * 600}"
KEPT = "é" * 512
NOTES = {f"key {place}": "v" * 512 for place in range(16)}
GENERATING: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": HI}),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/responses", {"input": "hi"}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": "hi"}),
    ("/v1/rerank", {"query": "hi", "documents": ["a"]}),
    ("/v1/score", {"text_1": "hi", "text_2": "a"}),
    ("/tokenize", {"prompt": "hi"}),
    ("/detokenize", {"tokens": [1]}),
]


async def asked(data: Path, path: str, body: dict[str, Any]) -> tuple[jobs_pb2.Job, jobs_pb2.Job]:
    """Returns the job of a request, and the same as its miner is told of it."""
    async with served(data) as (client, miner, http):
        asking = asyncio.create_task(http.post(path, json={"model": "m", **body}))
        [assignment] = await miner.assignments()
        job = await client.job(assignment.job.job_id)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        return job, assignment.job


@pytest.mark.parametrize(("path", "body"), GENERATING)
async def test_notes_have_their_room_beside_a_user_of_any_length(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    job, told = await asked(tmp_path, path, {**body, "metadata": NOTES, "user": LONG})
    assert (job.user, dict(job.metadata)) == (KEPT, NOTES)
    # Who asks is nothing to its miner.
    assert not told.user


@pytest.mark.parametrize(("path", "body"), GENERATING)
async def test_other_hints_may_have_any_length_too(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    hints = {"safety_identifier": LONG, "prompt_cache_key": LONG * 1000, "session_id": LONG * 1000}
    job, told = await asked(tmp_path, path, {**body, **hints})
    assert job.user == KEPT
    assert job.conversation_id == told.conversation_id != ""


@pytest.mark.parametrize(("path", "body"), OTHERS)
async def test_requests_of_every_kind_may_name_their_user(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    job, told = await asked(tmp_path, path, {**body, "user": LONG})
    assert (job.user, told.user) == (KEPT, "")


async def test_a_message_may_name_its_user_at_any_length(tmp_path: Path) -> None:
    body = {"messages": HI, "max_tokens": 5, "metadata": {"user_id": LONG}}
    job, _ = await asked(tmp_path, "/v1/messages", body)
    assert (job.user, len(job.metadata)) == (KEPT, 0)
    assert job.conversation_id


async def test_a_user_that_jobs_are_given_directly_has_its_bound(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, http):
        job = {"model": "m", "prompt": "hi"}
        made = await http.post("/v1/jobs", json={**job, "user": KEPT})
        refused = await http.post("/v1/jobs", json={**job, "user": f"{KEPT}x"})
        found = (await http.get(f"/v1/jobs/{made.json()['job_id']}")).json()
    assert (found["user"], found["metadata"]) == (KEPT, {})
    assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_ARGUMENT")
    assert refused.json()["detail"].startswith("user: ")

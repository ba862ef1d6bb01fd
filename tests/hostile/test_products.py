"""Requests that have each of many parts go with one large one: they are refused by name at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import work_pb2
from tests.conftest import Launcher
from tests.e2e.stream_miner import stream_miner
from tests.hostile.test_single_calls import Cost, assert_cheap

LARGE, MANY = "q" * 500_000, ["d" * 100] * 2000
JSON = {"Content-Type": "application/json"}
TOKENS = list(range(16_000))
PRODUCTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a query and documents": ("/v1/rerank", {"query": LARGE, "documents": MANY}, "documents"),
    "a text and texts": ("/v1/score", {"text_1": LARGE, "text_2": MANY}, "text_2"),
    "a query and items": ("/v1/score", {"queries": [LARGE], "items": MANY}, "items"),
    "a text and documents that are objects": (
        "/v1/score",
        {"queries": LARGE, "documents": [{"text": one} for one in MANY]},
        "documents",
    ),
    "prompts and tokens": (
        "/v1/completions",
        {"prompt": ["p"] * 1000, "allowed_token_ids": TOKENS},
        "prompt",
    ),
    "prompts and a schema": (
        "/v1/completions",
        {"prompt": ["p"] * 1000, "guided_choice": ["c" * 4000] * 60},
        "prompt",
    ),
    "answers of a conversation": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": LARGE}], "n": 128},
        "n",
    ),
}


@pytest.fixture
async def victim(launcher: Launcher) -> AsyncIterator[Coordinator]:
    """A coordinator with the default bounds, and a miner of a model that answers nothing."""
    victim = launcher.coordinator()
    async with stream_miner(victim.grpc, "m", window=1):
        yield victim


@pytest.fixture
async def api(victim: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    """The REST API of the coordinator under attack."""
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        yield client


@pytest.fixture
def cost(victim: Coordinator, api: httpx.AsyncClient) -> Cost:
    """What calls cost it."""
    return Cost(victim, api)


@pytest.mark.parametrize(("path", "body", "param"), PRODUCTS.values(), ids=PRODUCTS.keys())
async def test_parts_that_repeat_what_is_large_are_refused_by_name(
    path: str, body: dict[str, Any], param: str, api: httpx.AsyncClient, cost: Cost
) -> None:
    content = orjson.dumps({"model": "m", **body})

    async def call() -> None:
        answer = await api.post(path, content=content, headers=JSON)
        assert answer.status_code == 400, answer.text[:300]
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, "invalid_value")

    await assert_cheap(cost, call)


async def test_lines_of_a_batch_are_refused_by_name(api: httpx.AsyncClient, cost: Cost) -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "q" * 100_000}], "n": 128}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
    lines = [orjson.dumps({**line, "custom_id": f"line-{number}"}) for number in range(60)]

    async def call() -> None:
        file = {"file": b"\n".join(lines)}
        uploaded = await api.post("/v1/files", data={"purpose": "batch"}, files=file)
        batch = {
            "endpoint": line["url"],
            "completion_window": "24h",
            "input_file_id": uploaded.json()["id"],
        }
        made = (await api.post("/v1/batches", json=batch)).json()
        async with asyncio.timeout(60):
            while made["status"] != "completed":
                made = (await api.get(f"/v1/batches/{made['id']}")).json()
        assert made["request_counts"] == {"total": 60, "completed": 0, "failed": 60}
        errors = (await api.get(f"/v1/files/{made['error_file_id']}/content")).text
        assert errors.count('"param":"n"') == 60

    await assert_cheap(cost, call)


async def test_items_that_are_named_again_and_again_are_refused_by_name(
    victim: Coordinator, api: httpx.AsyncClient, cost: Cost
) -> None:
    async with stream_miner(victim.grpc, "answers", window=1, miner_id="answers") as miner:
        asked = asyncio.create_task(
            api.post("/v1/responses", json={"model": "answers", "input": "x"})
        )
        completion = work_pb2.Completion(result="a" * 1_000_000, finish_reason="stop")
        await miner.answer(await miner.assignment(), completion)
        item = (await asked).json()["output"][0]["id"]
    body = {"model": "m", "input": [{"type": "item_reference", "id": item}] * 9000}
    for path in ("/v1/responses", "/v1/responses/input_tokens"):

        async def call(path: str = path) -> None:
            answer = await api.post(path, json=body)
            assert answer.status_code == 400, answer.text[:300]
            assert answer.json()["error"]["param"] == "input"

        await assert_cheap(cost, call)

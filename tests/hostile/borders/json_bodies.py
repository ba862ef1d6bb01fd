"""JSON on the REST API, ours and OpenAI's: bodies that are nearly right."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.conftest import Launcher
from tests.hostile.borders.mutation import mutated, mutated_json
from tests.hostile.borders.victim import Attack, watched

_MODEL = "m"
_TOOL = {"name": "f", "description": "d", "parameters": {"type": "object"}}
_TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_JOB = {
    "model": _MODEL,
    "prompt": "p",
    "params": {"max_tokens": 5, "temperature": 0.5, "stop": ["a"], "logprobs": 2, "seed": 1},
    "priority": 1,
    "max_attempts": 2,
    "timeout_seconds": 5,
    "metadata": {"a": "b"},
    "tools": [{"name": "f", "parameters": "{}"}],
}
_CHAT = {
    "model": _MODEL,
    "messages": [
        *_TURNS,
        {"role": "assistant", "tool_calls": [_CALL], "reasoning_content": "r"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "t"}]},
    ],
    "tools": [{"type": "function", "function": _TOOL}],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
    "max_tokens": 5,
    "stream": True,
    "stream_options": {"include_usage": True},
    "logprobs": True,
    "top_logprobs": 2,
    "stop": "x",
}
_RESPONSE = {
    "model": _MODEL,
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "t"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "o"},
    ],
    "instructions": "i",
    "tools": [{"type": "function", **_TOOL}],
    "text": {"format": {"type": "text"}},
    "max_output_tokens": 5,
    "reasoning": {"effort": "low"},
}
_BODIES: tuple[tuple[str, Any], ...] = (
    ("/v1/jobs", _JOB),
    ("/v1/jobs", {"model": _MODEL, "messages": _TURNS}),
    ("/v1/jobs:batch", {"jobs": [_JOB, {"model": _MODEL, "prompt": "q"}]}),
    ("/v1/chat/completions", _CHAT),
    ("/v1/responses", _RESPONSE),
    ("/v1/completions", {"model": _MODEL, "prompt": ["p"], "logprobs": 1, "suffix": "", "n": 1}),
    (
        "/v1/miners/register",
        {"miner_id": "one", "capabilities": [_MODEL], "gpu_info": {"name": "g", "count": 1}},
    ),
    ("/v1/jobs/job-1/complete", {"miner_id": "one", "result": "r", "usage": {"prompt_tokens": 1}}),
    ("/v1/webhooks", {"url": "https://example.com/", "events": ["job.completed"]}),
    ("/v1/receipts/verify", {"receipt": {"receipt_id": "r", "proof": {"path": ["AA=="]}}}),
)
# An answer that waits for a miner is not waited for.
_PATIENCE_S = 2.0


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """The REST API of a coordinator with a miner."""
    coordinator = launcher.coordinator()
    miner = launcher.miner(coordinator, models=[_MODEL])
    miner.wait_for_line("miner echo ready", timeout_s=30)
    async with watched(coordinator) as victim:

        async def attack(rng: random.Random) -> None:
            path, body = rng.choice(_BODIES)
            for _ in range(rng.choice((1, 1, 2, 4))):
                body = mutated_json(rng, body)
            data = json.dumps(body, ensure_ascii=rng.random() < 0.5, allow_nan=True)
            content = data.encode(errors="surrogatepass")
            if rng.random() < 0.2:
                content = mutated(rng, content)
            await _post(victim.api, path, content)
            assert miner.exit_status is None, miner.tail()
            await victim.attacked()

        yield attack
        answer = await victim.api.post("/v1/jobs", json={"model": _MODEL, "prompt": "still"})
        job_id = answer.json()["job_id"]
        # What was asked for before comes first.
        done = (await victim.api.get(f"/v1/jobs/{job_id}?wait=50")).json()
        assert done["status"] == "completed", done


async def _post(api: httpx.AsyncClient, path: str, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    try:
        answer = await api.post(path, content=content, headers=headers, timeout=_PATIENCE_S)
    except httpx.TimeoutException:
        return
    assert answer.status_code != 500, (path, content[:1000], answer.text)
    if answer.status_code >= 400:
        # Told as documented, and briefly.
        assert len(answer.content) < 4000, (path, content[:1000])
        assert {"detail", "error"} & set(answer.json()), (path, answer.text)

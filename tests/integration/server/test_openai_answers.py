"""What the document says of OpenAI's API holds for real answers: whole ones, events, failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.answers import Failure
from aitbc_server.openai.operations import OPERATIONS
from tests.integration.server.harness import PATIENCE_S, FakeMiner
from tests.integration.server.test_openai_api import WEATHER, answer, both, served

BY_NAME = {operation.name: operation for operation in OPERATIONS}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOP = jobs_pb2.TokenLogprob(logprob=-0.5)
TOKENS = [jobs_pb2.TokenLogprob(logprob=-0.5, top=[TOP])]
CALLS = [jobs_pb2.ToolCall(id="call-1", name="weather", arguments="{}")]


def events_of(text: str) -> list[Any]:
    """Returns the data of each event, without the `[DONE]` that is no JSON."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def hold(model: type[BaseModel] | None, body: Any) -> None:
    assert model is not None
    # As a JSON text: there, a list may stand for a tuple.
    model.model_validate_json(json.dumps(body))


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("createChatCompletion", CHAT, {}),
    ("createChatCompletion", {**CHAT, "logprobs": True, "top_logprobs": 1}, {"logprobs": TOKENS}),
    (
        "createChatCompletion",
        {**CHAT, "tools": [{"type": "function", "function": WEATHER}]},
        {"tool_calls": CALLS},
    ),
    ("createCompletion", {"model": "m", "prompt": "hi", "logprobs": 1}, {"logprobs": TOKENS}),
    (
        "createResponse",
        {"model": "m", "input": "hi", "tools": [{"type": "function", **WEATHER}]},
        {"tool_calls": CALLS},
    ),
]


async def test_answers_are_as_described(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        for name, body, more in CASES:
            operation = BY_NAME[name]
            whole, _ = await both(
                http.post(operation.path, json=body), answer(miner, "a", "b", **more)
            )
            hold(operation.answer, whole.json())
            asked = {**body, "stream": True}
            if name != "createResponse":
                asked["stream_options"] = {"include_usage": True}
            stream, _ = await both(
                http.post(operation.path, json=asked), answer(miner, "a", "b", **more)
            )
            events = events_of(stream.text)
            assert len(events) > 2
            for event in events:
                hold(operation.event, event)


async def test_models_and_kept_responses_are_as_described(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        async with client.miner("miner-2", adapters=["legal"]):
            listed = (await http.get("/v1/models")).json()
        assert [one.get("parent") for one in listed["data"]] == ["m", None]
        hold(BY_NAME["listModels"].answer, listed)
        hold(BY_NAME["retrieveModel"].answer, (await http.get("/v1/models/m")).json())
        await _kept_responses(http, miner)
        for path in ("/v1/models/none", "/v1/responses/none"):
            failed = await http.get(path)
            assert failed.status_code == 404
            hold(Failure, failed.json())


async def _kept_responses(http: httpx.AsyncClient, miner: FakeMiner) -> None:
    asked: dict[str, Any] = {"model": "m", "input": "hi"}
    made, _ = await both(http.post("/v1/responses", json=asked), answer(miner, "a", "b"))
    deleted = await http.delete(f"/v1/responses/{made.json()['id']}")
    hold(BY_NAME["deleteResponse"].answer, deleted.json())
    asked["background"] = True
    queued = (await http.post("/v1/responses", json=asked)).json()
    hold(BY_NAME["createResponse"].answer, queued)
    cancelled = await http.post(f"/v1/responses/{queued['id']}/cancel")
    hold(BY_NAME["cancelResponse"].answer, cancelled.json())
    hold(BY_NAME["getResponse"].answer, (await http.get(f"/v1/responses/{queued['id']}")).json())


async def test_a_wrong_type_is_refused_and_a_null_is_not(tmp_path: Path) -> None:
    """Texts of numbers and truth values are taken for these, as by vLLM, and nothing else is."""
    async with (
        served(tmp_path) as (client, _, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        unknown = {**CHAT, "model": "none"}
        for wrong in (
            {"model": ""},
            {"temperature": "warm"},
            {"temperature": "nan"},
            {"stream": "perhaps"},
            {"n": "1.5"},
            {"user": 7},
            {"max_tokens": 2**40},
        ):
            refused = await http.post("/v1/chat/completions", json={**unknown, **wrong})
            assert refused.status_code == 400, refused.text
            assert refused.json()["error"]["param"] == next(iter(wrong))
        # A number is a number, however it is written.
        unknown |= {"max_tokens": 16.0, "top_p": "0.5", "seed": "4", "logprobs": "true"}
        nulls = dict.fromkeys(["temperature", "stream", "tools", "stop", "metadata", "n"])
        found = await http.post("/v1/chat/completions", json={**unknown, **nulls})
        assert (found.status_code, found.json()["error"]["code"]) == (404, "model_not_found")

"""What is refused in a request, named as its caller wrote it: here and in a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S, Client
from tests.integration.server.test_openai_tasks import served

HI = [{"role": "user", "content": "hi"}]
NUL = "a\0b"
LARGE = "é" * 600_000


def shows(**part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
# Where, what is asked, and what of it is wrong: the field, and a part of what is said of it.
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        CHAT,
        shows(type="image_url", image_url={"url": "ftp://x"}),
        "messages[0].content[1].image_url.url",
        "URL",
    ),
    (
        CHAT,
        shows(type="video_url", video_url="ftp://x"),
        "messages[0].content[1].video_url",
        "URL",
    ),
    (
        CHAT,
        shows(type="input_audio", input_audio={"data": "?", "format": "wav"}),
        "messages[0].content[1].input_audio.data",
        "Base64",
    ),
    (
        CHAT,
        shows(type="input_audio", input_audio={"data": "QQ==", "format": "W A V"}),
        "messages[0].content[1].input_audio.format",
        "pattern",
    ),
    (CHAT, {"messages": HI, "guided_json": "[]"}, "guided_json", "object"),
    (CHAT, {"messages": HI, "guided_regex": NUL}, "guided_regex", "NUL"),
    (CHAT, {"messages": HI, "guided_choice": ["a", NUL]}, "guided_choice[1]", "NUL"),
    (CHAT, {"messages": HI, "guided_grammar": NUL}, "guided_grammar", "NUL"),
    (
        CHAT,
        {"messages": HI, "structured_outputs": {"structural_tag": "[]"}},
        "structured_outputs.structural_tag",
        "object",
    ),
    (CHAT, {"messages": HI, "stop": ["", "x", NUL]}, "stop[2]", "NUL"),
    (CHAT, {"messages": HI, "min_tokens": 9, "max_tokens": 8}, "min_tokens", "max_tokens"),
    (CHAT, {"messages": HI, "bad_words": ["x", ""]}, "bad_words[1]", "empty"),
    (CHAT, {"messages": HI, "tools": [tool("f"), tool("f\n")]}, "tools[1].function.name", "name"),
    (
        CHAT,
        {"messages": [{"role": "system", "content": "x"}, {"role": "a king", "content": "x"}]},
        "messages[1].role",
        "word",
    ),
    (COMPLETIONS, {"prompt": ["a", NUL], "n": 2}, "prompt[1]", "NUL"),
    (COMPLETIONS, {"prompt": ["a", "b"], "min_tokens": 17}, "min_tokens", "max_tokens"),
    (COMPLETIONS, {"prompt": "a", "guided_choice": [NUL]}, "guided_choice[0]", "NUL"),
    (RESPONSES, {"input": "hi", "instructions": NUL}, "instructions", "NUL"),
    (
        RESPONSES,
        {
            "instructions": "x",
            "input": [
                *HI,
                {"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]},
            ],
        },
        "input[1].content[0].image_url",
        "URL",
    ),
    (
        RESPONSES,
        {"input": "hi", "structured_outputs": {"regex": NUL}},
        "structured_outputs.regex",
        "NUL",
    ),
    (
        RESPONSES,
        {"input": "hi", "max_output_tokens": 8, "min_tokens": 9},
        "min_tokens",
        "max_output_tokens",
    ),
    (f"{RESPONSES}/input_tokens", {"instructions": NUL, "input": "hi"}, "instructions", "NUL"),
    ("/v1/embeddings", {"input": [*["x"] * 66, NUL]}, "input[66]", "NUL"),
    ("/v1/embeddings", {"input": NUL}, "input", "NUL"),
    ("/v1/rerank", {"query": NUL, "documents": ["a", "b"]}, "query", "NUL"),
    ("/v1/rerank", {"query": "a", "documents": ["a", {"text": NUL}]}, "documents[1].text", "NUL"),
    ("/v1/score", {"text_1": "a", "text_2": ["b", NUL]}, "text_2[1]", "NUL"),
    ("/v1/score", {"queries": [NUL], "documents": ["b"]}, "queries[0]", "NUL"),
    ("/v1/score", {"data_1": ["", "a"], "data_2": ["", "b"]}, "data_1[0]", "data_2[0]"),
    ("/tokenize", {"prompt": NUL}, "prompt", "NUL"),
    ("/tokenize", {"messages": [{"role": "user", "content": NUL}]}, "messages[0].content", "NUL"),
    ("/tokenize", {"prompt": LARGE}, "prompt", "bytes"),
    (MESSAGES, {"max_tokens": 5, "messages": HI, "system": NUL}, "system", "NUL"),
    (
        MESSAGES,
        {
            "max_tokens": 5,
            "system": "x",
            "messages": [{"role": "user", "content": [{"type": "text", "text": NUL}]}],
        },
        "messages[0].content[0].text",
        "NUL",
    ),
    (
        MESSAGES,
        {"max_tokens": 5, "messages": HI, "stop_sequences": ["a", NUL]},
        "stop_sequences[1]",
        "NUL",
    ),
    (
        MESSAGES,
        {
            "max_tokens": 5,
            "messages": HI,
            "tools": [{"name": "f", "input_schema": {"type": "array"}}],
        },
        "tools[0].input_schema",
        "object",
    ),
    (f"{MESSAGES}/count_tokens", {"messages": HI, "system": NUL}, "system", "NUL"),
]


@asynccontextmanager
async def gateway(client: Client) -> AsyncIterator[str]:
    """Runs a gateway before a coordinator; gives its address."""
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    target = f"127.0.0.1:{client.coordinator.grpc_port}"
    running = asyncio.create_task(
        run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
    )
    try:
        yield f"http://127.0.0.1:{await ready}"
    finally:
        stop.set()
        await running


async def test_what_is_refused_is_named_as_its_caller_wrote_it(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, _, http),
        gateway(client) as there,
        httpx.AsyncClient(timeout=PATIENCE_S) as other,
    ):
        for path, body, param, why in REFUSED:
            for stream in (False, True):
                asked = {"model": "m", **body, **({"stream": True} if stream else {})}
                answers = [
                    await http.post(path, json=asked),
                    await other.post(f"{there}{path}", json=asked),
                ]
                for answer in answers:
                    error = answer.json()["error"]
                    assert answer.status_code == 400, (path, param, answer.text)
                    assert error["message"].startswith(f"{param}: "), (path, param, answer.text)
                    assert why in error["message"]
                    if "/messages" not in path:
                        assert error["param"] == param


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HI}),
        (COMPLETIONS, {"prompt": ["a", "b"]}),
        (RESPONSES, {"input": "hi"}),
        (MESSAGES, {"messages": HI, "max_tokens": 5}),
        ("/v1/embeddings", {"input": "hi"}),
    ],
)
async def test_a_wrong_idempotency_key_is_named_as_the_header(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    asked = {"model": "m", **body}
    async with served(tmp_path) as (_, _, http):
        answer = await http.post(path, json=asked, headers={"idempotency-key": "a b"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Idempotency-Key: must be printable")


@pytest.mark.parametrize("count", [3, 100])
async def test_a_job_of_a_batch_that_does_not_fit_together_is_named_with_its_place(
    tmp_path: Path, count: int
) -> None:
    jobs: list[dict[str, Any]] = [{"model": "m", "prompt": "hi"} for _ in range(count)]
    jobs[2]["params"] = {"min_tokens": 9, "max_tokens": 8}
    async with served(tmp_path) as (_, _, http):
        answer = await http.post("/v1/jobs:batch", json={"jobs": jobs})
        alone = await http.post("/v1/jobs", json=jobs[2])
    why = "params.min_tokens: must be at most params.max_tokens"
    assert (answer.status_code, answer.json()["detail"]) == (400, f"jobs[2].{why}")
    assert (alone.status_code, alone.json()["detail"]) == (400, why)


async def test_what_is_not_served_of_an_api_is_told_in_its_words(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, _, http),
        gateway(client) as there,
        httpx.AsyncClient(base_url=there, timeout=PATIENCE_S) as other,
    ):
        for api in (http, other):
            for method, path in (
                ("POST", "/v1/tokenize"),
                ("POST", "/pooling"),
                ("POST", "/api/v1/audio/speech"),
                ("POST", "/v1/chat/completions/batch"),
                ("POST", "/v1/responses/compact"),
                ("GET", "/api/v1/responses/resp_x/input_items/x"),
                ("GET", "/v1/vector_stores/vs_1/files"),
                ("POST", "/v2/embed"),
                ("POST", "/chat/nothing"),
                ("GET", "/v1/nothing"),
                ("PUT", "/api/v1/nothing/at/all"),
                ("POST", "/v1"),
            ):
                is_nobodys = "v1/nothing" in path or path == "/v1"
                headers = {"x-stainless-lang": "js"} if is_nobodys else {}
                answer = await api.request(method, path, json={}, headers=headers)
                body = answer.json()
                error = body["error"]
                assert (answer.status_code, error["code"]) == (404, "unknown_url"), path
                assert body.get("error_code", "ROUTE_NOT_FOUND") == "ROUTE_NOT_FOUND"
                assert f"{method} {path}" in error["message"]
                assert error.keys() == {"message", "type", "param", "code"}
                assert answer.headers["x-request-id"]
            # What begins as the coordinator's own paths is told in its words; so is any other path.
            for path in (
                "/v1/jobs/x/y",
                "/v1/jobs:x",
                "/api/v1/miners/x/y",
                "/nothing",
                "/v3/audio",
            ):
                answer = await api.get(path, headers={"anthropic-version": "2023-06-01"})
                assert (answer.status_code, answer.json().keys()) == (404, {"detail", "error_code"})
            answer = await api.get("/v1/nothing")
            assert (answer.status_code, answer.json().keys()) == (404, {"detail", "error_code"})


async def test_what_is_not_served_of_anthropics_api_is_told_in_its_words(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, _, http),
        gateway(client) as there,
        httpx.AsyncClient(base_url=there, timeout=PATIENCE_S) as other,
    ):
        for api in (http, other):
            for path, header in (
                ("/v1/skills", {"anthropic-version": "2023-06-01"}),
                ("/v1/files", {"anthropic-version": "2023-06-01"}),
                ("/api/v1/files/file_x", {"anthropic-version": "2023-06-01"}),
                ("/api/v1/complete", {"anthropic-version": "2023-06-01"}),
                ("/v1/messages/batches", {"x-api-key": "sk-ant-x"}),
            ):
                answer = await api.post(path, json={}, headers=header)
                told = answer.json()
                assert (answer.status_code, told["type"]) == (404, "error"), path
                assert told["error"]["type"] == "not_found_error"
                assert answer.headers["request-id"] == told["request_id"]


async def test_options_of_every_endpoint_tells_its_methods(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, http):
        for path, methods in (
            (CHAT, "OPTIONS, POST"),
            (MESSAGES, "OPTIONS, POST"),
            ("/v1/models", "GET, HEAD, OPTIONS"),
            ("/v1/responses/resp_x", "DELETE, GET, HEAD, OPTIONS"),
            ("/v1/jobs", "GET, HEAD, OPTIONS, POST"),
            ("/health", "GET, HEAD, OPTIONS"),
            ("/openapi.json", "GET, HEAD, OPTIONS"),
        ):
            answer = await http.options(path)
            assert (answer.status_code, answer.content) == (204, b""), path
            assert answer.headers["allow"] == methods
        assert (await http.options("/v1/nothing")).status_code == 404


@pytest.mark.parametrize("name", ["%00", "%0D%0Ax:%20y", "x" * 300, "%C3%A9", "a%20b"])
async def test_what_cannot_be_a_response_is_not_found(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as (_, _, http):
        path = f"/v1/responses/resp_{name}"
        for answer in (
            await http.get(path),
            await http.delete(path),
            await http.post(f"{path}/cancel"),
            await http.get(f"{path}/input_items"),
        ):
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (404, "response_id")
        asked = {"model": "m", "input": "hi", "previous_response_id": f"resp_{unquote(name)[:200]}"}
        error = (await http.post("/v1/responses", json=asked)).json()["error"]
        assert error["param"] == "previous_response_id"

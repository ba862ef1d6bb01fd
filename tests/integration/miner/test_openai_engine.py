from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from aitbc_miner.engines.base import (
    Chunk,
    Job,
    Logprob,
    Message,
    Resume,
    Tool,
    ToolCallPart,
)
from aitbc_miner.engines.openai import OpenAIEngine, OpenAIOptions
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.errors import BadRequest, EngineBusy, EngineError, EngineFailed, Misconfigured

TIMEOUT_S = 20.0

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class FakeServer:
    """An OpenAI-compatible server that answers each request with the same lines."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.lines: list[str] = []
        # Whether the connection stays open after the lines.
        self.hangs = False
        self.path = ""
        self.headers: dict[bytes, bytes] = {}
        self.body: dict[str, Any] = {}
        self.disconnected = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        self.path, self.headers = scope["path"], dict(scope["headers"])
        content = b""
        while (message := await receive()).get("more_body"):
            content += message["body"]
        self.body = json.loads(content + message["body"])
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for line in self.lines:
            part = f"{line}\n\n".encode()
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self.hangs:
            assert (await receive())["type"] == "http.disconnect"
            self.disconnected.set()
        await send({"type": "http.response.body", "body": b""})

    def answer(self, *deltas: str, finish_reason: str | None = "stop") -> None:
        """Answers as OpenAI does."""
        chunks: list[dict[str, Any]] = [
            {"choices": [{"delta": {"content": delta}, "finish_reason": None}]} for delta in deltas
        ]
        chunks.append({"choices": [{"delta": {}, "finish_reason": finish_reason}]})
        chunks.append({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 42}})
        self.lines = [": a comment", *(f"data: {json.dumps(chunk)}" for chunk in chunks)]
        self.lines.append("data: [DONE]")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    app = FakeServer()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        config = uvicorn.Config(app, lifespan="off", log_level="critical")
        running = uvicorn.Server(config)
        serving = asyncio.create_task(running.serve([listener]))
        yield app
        running.should_exit = True
        await asyncio.wait_for(serving, TIMEOUT_S)


@pytest.fixture
async def engine(server: FakeServer) -> AsyncIterator[OpenAIEngine]:
    engine = make_engine(base_url=server.url + "/", api_key="secret")
    yield engine
    await engine.close()


def make_engine(**options: str) -> OpenAIEngine:
    parsed = OpenAIOptions.parse(EngineOptions("openai", options))
    return OpenAIEngine({"llama3.2": "upstream-name"}, None, parsed)


def job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "request_id": "1",
        "model": "llama3.2",
        "prompt": "hello",
        "params": {"max_tokens": 5, "top_k": 3},
    }
    return Job(**(values | changes))


async def chunks_of(engine: OpenAIEngine, job: Job) -> list[Chunk]:
    async with asyncio.timeout(TIMEOUT_S):
        return [chunk async for chunk in engine.generate(job)]


async def test_an_answer_is_streamed_with_its_usage(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("Hel", "lo", finish_reason="length")
    assert await chunks_of(engine, job()) == [
        Chunk(text="Hel", tokens=1),
        Chunk(text="lo", tokens=1),
        Chunk(finish_reason="length", prompt_tokens=11, completion_tokens=42),
    ]


async def test_a_prompt_is_asked_as_a_users_message_with_all_parameters(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("a")
    await chunks_of(engine, job())
    assert server.path == "/v1/chat/completions"
    assert server.headers[b"authorization"] == b"Bearer secret"
    assert server.body == {
        "model": "upstream-name",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "top_k": 3,
    }


async def test_a_conversation_is_passed_on(server: FakeServer, engine: OpenAIEngine) -> None:
    server.answer("a")
    messages = (Message(role="system", content="s"), Message(role="user", content="u"))
    await chunks_of(engine, job(prompt=None, messages=messages))
    assert server.body["messages"] == list(messages)


async def test_a_raw_prompt_goes_to_the_completions_endpoint(server: FakeServer) -> None:
    engine = make_engine(base_url=server.url, endpoint="completions")
    server.lines = ['data: {"choices": [{"text": "raw", "finish_reason": "stop"}]}', "data: [DONE]"]
    first, last = await chunks_of(engine, job())
    assert (server.path, server.body["prompt"]) == ("/v1/completions", "hello")
    assert (first.text, last.finish_reason, last.completion_tokens) == ("raw", "stop", None)
    await engine.close()


async def test_a_conversation_is_resumed_where_the_server_can(server: FakeServer) -> None:
    server.answer(" world")
    asked = job(params={"max_tokens": 9}, resume=Resume("hello", 4))
    engine = make_engine(base_url=server.url, continues="true")
    assert engine.can_resume(asked)
    last = (await chunks_of(engine, asked))[-1]
    await engine.close()
    assert server.body["messages"][-1] == {"role": "assistant", "content": "hello"}
    assert server.body["continue_final_message"] is True
    assert server.body["add_generation_prompt"] is False
    assert server.body["max_tokens"] == 5
    assert (last.prompt_tokens, last.completion_tokens) == (11 - 4, 42 + 4)


async def test_a_raw_prompt_is_resumed_by_any_server(server: FakeServer) -> None:
    server.answer(" world")
    asked = job(resume=Resume("hello", 4))
    engine = make_engine(base_url=server.url, endpoint="completions")
    assert engine.can_resume(asked)
    await chunks_of(engine, asked)
    await engine.close()
    assert server.body["prompt"] == f"{asked.prompt}hello"


async def test_a_server_that_only_chats_begins_anew(engine: OpenAIEngine) -> None:
    assert not engine.can_resume(job(resume=Resume("hello", 4)))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequest),
        (404, BadRequest),
        (408, EngineBusy),
        (429, EngineBusy),
        (503, EngineFailed),
    ],
)
async def test_a_refusal_says_whether_another_attempt_helps(
    server: FakeServer, engine: OpenAIEngine, status: int, error: type[EngineError]
) -> None:
    server.status, server.lines = status, ["hello is a secret"]
    with pytest.raises(error, match=str(status)) as caught:
        await chunks_of(engine, job())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["data: no json", 'data: {"error": {"message": "hello is a secret"}}', "data: [DONE]"]
)
async def test_a_broken_answer_can_be_tried_again(
    server: FakeServer, engine: OpenAIEngine, line: str
) -> None:
    server.lines = [line]
    with pytest.raises(EngineFailed) as caught:
        await chunks_of(engine, job())
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_not_there_can_be_tried_again() -> None:
    engine = make_engine(base_url="http://127.0.0.1:1/v1")
    with pytest.raises(EngineFailed, match="ConnectError"):
        await chunks_of(engine, job())
    await engine.close()


async def test_closing_an_answer_closes_the_request(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("a", "b")
    server.lines.pop()
    server.hangs = True
    answer = engine.generate(job())
    assert (await anext(answer)).text == "a"
    await answer.aclose()
    await asyncio.wait_for(server.disconnected.wait(), TIMEOUT_S)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "base_url: give the server's URL"),
        ({"base_url": "127.0.0.1:8000"}, "base_url: give the server's URL"),
        ({"base_url": "http://x", "endpoint": "embeddings"}, "endpoint=embeddings"),
        ({"base_url": "http://x", "bas_url": "x"}, "bas_url"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(options: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        make_engine(**options)


async def test_calls_are_passed_on_in_parts(server: FakeServer, engine: OpenAIEngine) -> None:
    def part(**told: Any) -> dict[str, Any]:
        return {"choices": [{"delta": {"tool_calls": [{"index": 0, **told}]}}]}

    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": "I look."}}]},
        part(id="call_1", type="function", function={"name": "look_up", "arguments": ""}),
        part(function={"arguments": '{"city": '}),
        part(function={"arguments": '"Graz"}'}),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
    ]
    server.lines = [f"data: {json.dumps(chunk)}" for chunk in chunks]
    tool = Tool("look_up", "", {"type": "object"}, is_strict=True)
    told = await chunks_of(engine, job(tools=(tool,), tool_choice="look_up", is_parallel=False))
    assert [part for chunk in told for part in chunk.tool_calls] == [
        ToolCallPart(0, "call_1", "look_up", ""),
        ToolCallPart(0, arguments='{"city": '),
        ToolCallPart(0, arguments='"Graz"}'),
    ]
    assert ("".join(chunk.text for chunk in told), told[-1].finish_reason) == (
        "I look.",
        "tool_calls",
    )
    assert server.body["tools"][0]["function"]["strict"] is True
    assert server.body["tool_choice"] == {"type": "function", "function": {"name": "look_up"}}
    assert server.body["parallel_tool_calls"] is False


async def test_probabilities_come_with_their_text(server: FakeServer, engine: OpenAIEngine) -> None:
    one = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [one]}}]},
        {"choices": [{"delta": {"content": ""}, "logprobs": {"content": [one]}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    server.lines = [f"data: {json.dumps(chunk)}" for chunk in chunks]
    told = await chunks_of(engine, job(params={"logprobs": 1}))
    assert [chunk.logprobs for chunk in told] == [
        (Logprob("a", -0.5, (Logprob("b", -1),)),)
    ] * 2 + [()]

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import uvicorn

from aitbc_miner.engines import openai as openai_engine
from aitbc_miner.engines.base import (
    Chunk,
    Form,
    Job,
    Logprob,
    Message,
    PromptOptions,
    Resume,
    Tool,
    ToolCallPart,
)
from aitbc_miner.engines.openai import OpenAIEngine, OpenAIOptions
from aitbc_miner.engines.openai_faults import retry_after_s
from aitbc_miner.engines.openai_requests import body_of, hints_of
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.errors import (
    BadRequest,
    EngineAnswerInvalid,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineUnusable,
    Fault,
    Misconfigured,
)

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
        # What is sent instead of lines, cut as it is here.
        self.pieces: list[bytes] = []
        self.answer_headers: list[tuple[bytes, bytes]] = []
        # Whether a field of a request is refused, as servers do that do not know it.
        self.unknown_field = ""
        # How it says so, when it does not name the field as FastAPI does.
        self.unknown_body: dict[str, Any] | None = None
        self.bodies: list[dict[str, Any]] = []
        # Whether the connection stays open after the lines.
        self.hangs = False
        self.path = ""
        self.headers: dict[bytes, bytes] = {}
        self.body: dict[str, Any] = {}
        # What it says of its models.
        self.models: object = None
        self.disconnected = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(self.models).encode()})
            return
        self.path, self.headers = scope["path"], dict(scope["headers"])
        content = b""
        while (message := await receive()).get("more_body"):
            content += message["body"]
        self.body = json.loads(content + message["body"])
        self.bodies.append(self.body)
        if self.unknown_field in self.body:
            await refuse(send, self.unknown_field, self.unknown_body)
            return
        start = {"status": self.status, "headers": self.answer_headers}
        await send({"type": "http.response.start", **start})
        for part in self.pieces or [f"{line}\n\n".encode() for line in self.lines]:
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


async def refuse(send: Send, field: str, told: dict[str, Any] | None) -> None:
    """Answers as FastAPI does to a field that it does not know."""
    detail = [{"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs"}]
    body = json.dumps(told or {"detail": detail}).encode()
    await send({"type": "http.response.start", "status": 422, "headers": []})
    await send({"type": "http.response.body", "body": body})


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


@pytest.mark.parametrize(("option", "salt"), [({}, "of-a"), ({"cache_salt": "false"}, None)])
async def test_whose_cache_it_is_is_told_unless_the_server_is_not_to_know(
    server: FakeServer, option: dict[str, str], salt: str | None
) -> None:
    server.answer("hi")
    engine = make_engine(base_url=server.url, **option)
    await chunks_of(engine, job(cache_salt="of-a"))
    await engine.close()
    assert server.body.get("cache_salt") == salt


async def test_a_server_that_knows_no_salt_is_told_none_from_then_on(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("hi")
    server.unknown_field = "cache_salt"
    server.unknown_body = {"error": {"message": "Unrecognized request argument: cache_salt"}}
    for _ in range(2):
        await chunks_of(engine, job(cache_salt="of-a"))
    assert ["cache_salt" in body for body in server.bodies] == [True, False, False]


async def test_a_budget_of_thinking_is_left_out_only_where_it_is_optional(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("hi")
    server.unknown_field = "thinking_token_budget"
    server.unknown_body = {"error": {"message": "thinking_token_budget: no reasoning parser"}}
    budget = {"thinking_token_budget": 5}
    await chunks_of(engine, job(params={**budget, "is_thinking_token_budget_optional": True}))
    assert [body.get("thinking_token_budget") for body in server.bodies] == [5, None]
    assert "is_thinking_token_budget_optional" not in server.bodies[0]
    # What was learnt of the one says nothing of the other.
    with pytest.raises(BadRequest, match="no reasoning parser"):
        await chunks_of(engine, job(params=budget))


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
    ("status", "error", "fault"),
    [
        (204, EngineFailed, Fault.PASSING),
        (302, EngineUnusable, Fault.MINER),
        (400, BadRequest, Fault.JOB),
        (401, EngineUnusable, Fault.MINER),
        (402, EngineUnusable, Fault.MINER),
        (403, EngineUnusable, Fault.MINER),
        (404, EngineUnusable, Fault.MINER),
        (405, EngineUnusable, Fault.MINER),
        (408, EngineBusy, Fault.PASSING),
        (409, EngineFailed, Fault.PASSING),
        (410, EngineUnusable, Fault.MINER),
        (413, BadRequest, Fault.JOB),
        (418, EngineFailed, Fault.PASSING),
        (422, BadRequest, Fault.JOB),
        (425, EngineBusy, Fault.PASSING),
        (429, EngineBusy, Fault.PASSING),
        (451, EngineUnusable, Fault.MINER),
        (500, EngineFailed, Fault.PASSING),
        (503, EngineFailed, Fault.PASSING),
        (529, EngineFailed, Fault.PASSING),
    ],
)
async def test_a_status_says_whose_fault_it_is(
    server: FakeServer, engine: OpenAIEngine, status: int, error: type[EngineError], fault: Fault
) -> None:
    server.status, server.lines = status, [] if status == 204 else ["hello is private"]
    with pytest.raises(error, match=str(status)) as caught:
        await chunks_of(engine, job())
    assert caught.value.fault is fault
    assert ("private" in str(caught.value)) is (fault is Fault.JOB)


@pytest.mark.parametrize(
    "line", ["data: no json", 'data: {"error": {"message": "hello is private"}}', "data: [DONE]"]
)
async def test_a_broken_answer_can_be_tried_again(
    server: FakeServer, engine: OpenAIEngine, line: str
) -> None:
    server.lines = [line]
    with pytest.raises(EngineFailed) as caught:
        await chunks_of(engine, job())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:1/v1", "http://nobody.invalid/v1", "https://127.0.0.1:1", "http://[::1/v1"],
)
async def test_a_server_that_is_not_there_is_the_miners_fault(base_url: str) -> None:
    engine = make_engine(base_url=base_url)
    with pytest.raises(EngineUnusable, match="cannot be reached"):
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


def delta(**told: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": told, "finish_reason": None}]}


STOPPED: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
NOTHING: dict[str, Any] = {
    "usage": None,
    "error": None,
    "choices": [
        {
            "index": None,
            "delta": {
                "role": None,
                "content": None,
                "tool_calls": None,
                "reasoning_content": None,
                "function_call": None,
            },
            "logprobs": None,
            "finish_reason": None,
        }
    ],
}


async def answer_of(
    server: FakeServer, engine: OpenAIEngine, *events: Any, **changes: Any
) -> list[Chunk]:
    server.lines = [f"data: {json.dumps(event)}" for event in events]
    return await chunks_of(engine, job(**changes))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        ["hello"],
        ["hel", {"type": "text", "text": "lo"}],
        [{"type": "text", "text": "hello"}],
        [{"type": "output_text", "text": "hel"}, {"type": "text", "text": {"value": "lo"}}],
        {"type": "text", "text": "hello"},
        [None, {"type": "text", "text": "hello"}],
    ],
)
async def test_a_content_is_read_in_every_shape_that_makes_sense(
    server: FakeServer, engine: OpenAIEngine, content: Any
) -> None:
    said = await answer_of(
        server, engine, delta(role="assistant"), NOTHING, delta(content=content), STOPPED
    )
    assert text_of(said) == "hello"
    assert len(said) == 2  # what says nothing is no progress


@pytest.mark.parametrize(
    "event",
    [
        delta(content=42),
        delta(content=True),
        delta(content={"type": "image"}),
        delta(content=[["hello"]]),
        delta(content=[{"type": "image_url", "image_url": {}}]),
        delta(tool_calls=[{"index": "x", "function": {"name": "f"}}]),
        delta(tool_calls=[{"index": -1, "function": {"name": "f"}}]),
        delta(tool_calls=["f"]),
        delta(tool_calls=[{"index": 0, "function": "f"}]),
        delta(tool_calls=[{"index": 0, "function": {"name": ["f"]}}]),
        {"choices": "hello"},
        {"choices": [["hello"]]},
        {"choices": [{"delta": "hello"}]},
        {"choices": [{"delta": {}, "finish_reason": 7}]},
        ["hello"],
        "hello",
        42,
    ],
)
async def test_a_shape_that_nothing_can_be_made_of_is_an_invalid_answer(
    server: FakeServer, engine: OpenAIEngine, event: Any
) -> None:
    with pytest.raises(EngineAnswerInvalid):
        await answer_of(server, engine, event, STOPPED)


async def test_json_that_is_nested_too_deeply_is_an_invalid_answer(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.lines = [f"data: {'[' * 100_000}{']' * 100_000}"]
    with pytest.raises(EngineAnswerInvalid):
        await chunks_of(engine, job())


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", [1, 3, 10_000])
async def test_events_are_read_however_they_are_cut(
    server: FakeServer, engine: OpenAIEngine, end: str, size: int
) -> None:
    text = "a\u2028b\u2029c\u0085d\x1ce \U0001f600"
    events = [delta(content=text), STOPPED]
    stream = "".join(
        f"event: x{end}data: {json.dumps(event, ensure_ascii=False)}{end}{end}" for event in events
    ).encode()
    server.pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert text_of(await chunks_of(engine, job())) == text


async def test_a_server_may_forget_the_blank_lines(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    lines = [json.dumps(delta(content="a")), json.dumps(STOPPED), "[DONE]"]
    server.pieces = ["".join(f"data: {line}\n" for line in lines).encode()]
    assert text_of(await chunks_of(engine, job())) == "a"


@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream", b""])
async def test_a_server_that_does_not_stream_is_understood(
    server: FakeServer, engine: OpenAIEngine, kind: bytes
) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"city": "Oslo"}}}
    message = {"role": "assistant", "content": "hello, you", "tool_calls": [call]}
    whole = {
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    server.answer_headers = [(b"content-type", kind)] if kind else []
    server.pieces = [json.dumps(whole, indent=1).encode()]
    first, last = await chunks_of(engine, job())
    assert first.text == "hello, you"
    assert first.tool_calls == (ToolCallPart(0, "c", "f", '{"city": "Oslo"}'),)
    assert (last.prompt_tokens, last.completion_tokens) == (3, 4)


async def test_what_a_last_event_repeats_is_not_said_twice(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    whole = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
    assert text_of(await answer_of(server, engine, delta(content="hello"), whole)) == "hello"


async def test_only_the_first_of_several_answers_counts(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}
    as_text = {"choices": [{"index": "0", "delta": {"content": "yes"}}]}
    said = await answer_of(server, engine, other, as_text, STOPPED)
    assert (text_of(said), said[-1].finish_reason) == ("yes", "stop")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_told_apart_in_both_spellings(
    server: FakeServer, engine: OpenAIEngine, name: str
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    usage_event = {
        "choices": [],
        "usage": {**usage, "completion_tokens_details": {"reasoning_tokens": 2}},
    }
    said = await answer_of(
        server, engine, delta(**{name: "hm "}), delta(content="so"), STOPPED, usage_event
    )
    assert [(chunk.reasoning, chunk.text, chunk.tokens) for chunk in said] == [
        ("hm ", "", 1),
        ("", "so", 1),
        ("", "", 0),
    ]
    assert said[-1].reasoning_tokens == 2


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_a_server_is_told_reasoning_in_its_own_word_and_only_if_it_has_one(
    server: FakeServer, engine: OpenAIEngine, name: str
) -> None:
    turns = (
        Message(role="assistant", content="4", reasoning="2 + 2"),
        Message(role="user", content="sure?"),
    )
    plain = [{"role": "assistant", "content": "4"}, {"role": "user", "content": "sure?"}]
    server.answer("yes")
    await chunks_of(engine, job(prompt=None, messages=turns))
    assert server.body["messages"] == plain
    await answer_of(server, engine, delta(**{name: "hm "}), delta(content="so"), STOPPED)
    server.answer("yes")
    await chunks_of(engine, job(prompt=None, messages=turns))
    assert server.body["messages"] == [{**plain[0], name: "2 + 2"}, plain[1]]


@pytest.mark.parametrize(
    "parts",
    [
        [{"index": 0, "id": "c", "function": {"name": "f", "arguments": {"city": "Oslo"}}}],
        [{"index": "0", "id": "c", "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}],
        [{"id": "c", "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}],
        {"id": "c", "function": {"name": "f", "arguments": {"city": "Oslo"}}},
    ],
)
async def test_calls_are_read_in_every_shape_that_makes_sense(
    server: FakeServer, engine: OpenAIEngine, parts: Any
) -> None:
    said = await answer_of(server, engine, delta(tool_calls=parts), STOPPED)
    assert said[0].tool_calls == (ToolCallPart(0, "c", "f", '{"city": "Oslo"}'),)


async def test_a_call_as_it_was_before_there_were_tools_is_read(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    call = {"name": "f", "arguments": "{}"}
    said = await answer_of(server, engine, delta(function_call=call), STOPPED)
    assert said[0].tool_calls[0].name == "f"


async def test_bytes_of_a_token_are_passed_on_where_its_text_does_not_tell_them(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    def likely(**told: Any) -> dict[str, Any]:
        return {"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [told]}}]}

    half = {"token": "\\xf0\\x9f", "logprob": -1, "bytes": [240, 159]}
    plain = {"token": "x", "logprob": -1, "bytes": [120], "top_logprobs": [half]}
    odd = {"token": "x", "logprob": -1, "bytes": [300, "x"]}
    said = await answer_of(
        server,
        engine,
        *(likely(**one) for one in (half, plain, odd)),
        STOPPED,
        params={"logprobs": 1},
    )
    assert [chunk.logprobs[0].token_bytes for chunk in said[:-1]] == [b"\xf0\x9f", b"", b""]
    assert said[1].logprobs[0].top[0].token_bytes == b"\xf0\x9f"


async def test_probabilities_that_nobody_asked_for_are_not_looked_at(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    event = {"choices": [{"delta": {"content": "x"}, "logprobs": 7}]}
    assert text_of(await answer_of(server, engine, event, STOPPED)) == "x"


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": -1, "completion_tokens": -1}, (None, None, True)),
        ({"prompt_tokens": "12", "completion_tokens": 7.0}, (12, 7, False)),
        ({"prompt_tokens": [1], "completion_tokens": {}}, (None, None, True)),
        ({"prompt_tokens": 2**40, "completion_tokens": True}, (None, None, True)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, (None, None, True)),
        ({"input_tokens": 3, "output_tokens": 4}, (3, 4, False)),
        ({"prompt_tokens": 3}, (3, None, True)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None, True)),
        (None, (None, None, True)),
        ("many", (None, None, True)),
    ],
)
async def test_a_count_that_is_none_is_unknown(
    server: FakeServer, engine: OpenAIEngine, usage: Any, counts: tuple[Any, ...]
) -> None:
    told = {"choices": [], "usage": usage}
    last = (await answer_of(server, engine, delta(content="x"), STOPPED, told))[-1]
    assert (last.prompt_tokens, last.completion_tokens, last.is_estimated) == counts


async def test_an_answer_that_is_whole_does_not_wait_for_ever_for_its_usage(
    server: FakeServer, engine: OpenAIEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_engine, "_USAGE_S", 0.05)
    server.hangs = True
    said = await answer_of(server, engine, delta(content="x"), STOPPED)
    assert (text_of(said), said[-1].is_estimated) == ("x", True)


@pytest.mark.parametrize("rest", ["garbage\n\n", '{"choices": [], "usa', '{"error": "late"}\n\n'])
@pytest.mark.parametrize("is_apart", [False, True])
async def test_what_cannot_be_read_after_a_whole_answer_is_no_loss(
    server: FakeServer, engine: OpenAIEngine, rest: str, *, is_apart: bool
) -> None:
    whole = "".join(f"data: {json.dumps(one)}\n\n" for one in (delta(content="x"), STOPPED))
    pieces = [whole, f"data: {rest}"]
    server.pieces = [one.encode() for one in (pieces if is_apart else ["".join(pieces)])]
    said = await chunks_of(engine, job())
    assert (text_of(said), said[-1].finish_reason) == ("x", "stop")


@pytest.mark.parametrize("reason", ["stop", "null", "None", "", False])
async def test_an_answer_goes_on_where_each_piece_has_a_reason(
    server: FakeServer, engine: OpenAIEngine, reason: object
) -> None:
    pieces = [
        {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}
        for text in ("hel", "l", "o")
    ]
    server.pieces = [f"data: {json.dumps(one)}\n\n".encode() for one in (*pieces, STOPPED)]
    assert text_of(await chunks_of(engine, job())) == "hello"


async def test_a_stream_that_says_it_is_done_needs_no_finish_reason(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.lines = [f"data: {json.dumps(delta(content='x'))}", "data: [DONE]"]
    assert (await chunks_of(engine, job()))[-1].finish_reason == "stop"


async def test_options_that_a_server_does_not_know_are_left_out_from_then_on(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("x")
    server.unknown_field = "stream_options"
    for _ in range(2):
        assert text_of(await chunks_of(engine, job())) == "x"
    assert ["stream_options" in body for body in server.bodies] == [True, False, False]


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": "Extra inputs are not permitted", "param": None}},
        {"error": {"message": "Unrecognized request argument supplied."}},
        {"error": {"message": "Unknown parameter.", "type": "invalid_request_error"}},
        {"error": {"message": "no", "code": "unsupported_parameter"}},
        {"detail": "Additional properties are not allowed"},
        {"detail": [{"type": "extra_forbidden", "loc": ["body"], "msg": "Extra inputs"}]},
        {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "no"}]},
        {"error": {"message": "no", "param": "stream_options"}},
        {"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options')}]"},
    ],
)
async def test_options_are_left_out_where_a_refusal_may_be_about_them(
    server: FakeServer, engine: OpenAIEngine, told: dict[str, Any]
) -> None:
    server.answer("x")
    server.unknown_field, server.unknown_body = "stream_options", told
    for _ in range(2):
        assert text_of(await chunks_of(engine, job())) == "x"
    assert ["stream_options" in body for body in server.bodies] == [True, False, False]


async def test_options_are_asked_for_again_where_they_were_not_to_blame(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.unknown_field = "top_k"
    server.unknown_body = {"error": {"message": "Extra inputs are not permitted"}}
    for _ in range(2):
        with pytest.raises(BadRequest, match="Extra inputs"):
            await chunks_of(engine, job())
    assert ["stream_options" in body for body in server.bodies] == [True, False] * 2


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": "Unrecognized request argument supplied: top_k"}},
        {"error": {"message": "Unknown parameter.", "param": "top_k"}},
        {"error": {"message": "The prompt is too long."}},
    ],
)
async def test_a_refusal_of_something_else_is_not_asked_again(
    server: FakeServer, engine: OpenAIEngine, told: dict[str, Any]
) -> None:
    server.unknown_field, server.unknown_body = "top_k", told
    with pytest.raises(BadRequest):
        await chunks_of(engine, job())
    assert len(server.bodies) == 1


async def test_another_refusal_does_not_change_what_is_asked(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.unknown_field = "top_k"
    with pytest.raises(BadRequest, match="Extra inputs"):
        await chunks_of(engine, job())
    assert len(server.bodies) == 1


MESSAGE = "This model's maximum context length is 8 tokens."


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": MESSAGE, "code": "context_length_exceeded", "param": "messages"}},
        {"error": {"message": MESSAGE, "type": "BadRequestError", "param": None, "code": 400}},
        {"object": "error", "message": MESSAGE, "type": "BadRequestError", "code": 400},
        {"error": MESSAGE},
        {"detail": MESSAGE},
        {"error": {"message": MESSAGE, "type": "exceed_context_size_error"}},
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_prompt_that_is_too_long_is_told_so(
    server: FakeServer, engine: OpenAIEngine, body: dict[str, Any], is_streamed: bool
) -> None:
    if is_streamed:
        if "detail" in body or isinstance(body.get("error"), str):
            body = {"error": {"message": MESSAGE, "code": "context_length_exceeded"}}
        server.lines = [f"data: {json.dumps(body)}"]
    else:
        server.status, server.pieces = 400, [json.dumps(body).encode()]
    with pytest.raises(BadRequest, match="maximum context length is 8") as caught:
        await chunks_of(engine, job())
    assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"


async def test_what_a_server_says_of_a_job_is_cleaned_and_bounded(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    message = "bad\x1b]0;pwned\x07\nline\u2028\u202ex " + "y" * 100_000
    error = {"message": message, "code": "invalid_value", "param": "top_p"}
    server.status, server.pieces = 422, [json.dumps({"error": error}).encode()]
    with pytest.raises(BadRequest, match="invalid_value") as caught:
        await chunks_of(engine, job())
    told = str(caught.value)
    assert told.startswith("top_p: bad ]0;pwned line x yyy")
    assert told.isprintable()
    assert len(told) < 1000


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (429, "insufficient_quota", Fault.MINER),
        (400, "invalid_api_key", Fault.MINER),
        (400, "model_not_found", Fault.MINER),
        (403, "content_policy_violation", Fault.JOB),
        (400, "rate_limit_exceeded", Fault.PASSING),
        (404, "invalid_request_error", Fault.MINER),
    ],
)
async def test_a_code_says_more_than_a_status(
    server: FakeServer, engine: OpenAIEngine, status: int, code: str, fault: Fault
) -> None:
    server.status = status
    server.pieces = [json.dumps({"error": {"message": "no", "code": code}}).encode()]
    with pytest.raises(EngineError, match=code) as caught:
        await chunks_of(engine, job())
    assert caught.value.fault is fault


GOOGLE = {
    "code": 400,
    "message": "API key not valid. Please pass a valid API key.",
    "status": "INVALID_ARGUMENT",
    "details": [{"@type": "x"}, {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
}
INVALID = "invalid_request_error"


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        [{"error": GOOGLE}],
        [{"error": {**GOOGLE, "message": "no"}}],
        {"error": {**GOOGLE, "details": []}},
        {"error": {"error": GOOGLE}},
        {"error": {"error": {"message": "no", "code": "invalid_api_key"}}},
        {"detail": {"error": {"code": "permission_denied"}}},
        [{"error": {"code": 400, "message": "no", "status": "PERMISSION_DENIED"}}],
        [{"error": {"code": 400, "message": "enable it", "status": "FAILED_PRECONDITION"}}],
        {"error": {"message": "Incorrect API key provided: sk-1.", "type": INVALID}},
        {"error": {"message": "Your API key has expired.", "type": INVALID}},
        {"error": {"message": "You didn't provide an API key.", "type": INVALID}},
        {"error": {"message": "Your credit balance is too low.", "type": INVALID}},
        {"error": "Invalid API Key"},
        {"message": "Invalid authentication credentials"},
        {"errors": ["Authentication Error, No api key passed in."]},
        "Unauthorized",
    ],
)
async def test_a_bad_key_is_the_miners_fault_in_every_form(
    server: FakeServer, engine: OpenAIEngine, status: int, body: Any
) -> None:
    server.status = status
    server.pieces = [body.encode() if isinstance(body, str) else json.dumps(body).encode()]
    with pytest.raises(EngineUnusable, match=str(status)) as caught:
        await chunks_of(engine, job())
    assert "sk-1" not in str(caught.value)


async def test_the_key_is_named_as_what_to_correct(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.status, server.pieces = 400, [json.dumps([{"error": GOOGLE}]).encode()]
    with pytest.raises(EngineUnusable, match=r"correct --engine-opt api_key \(400 API_KEY_INVALID"):
        await chunks_of(engine, job())


@pytest.mark.parametrize(
    "message",
    ["Invalid value: 'API key not valid'.", "messages[0]: 'Incorrect API key provided' is no role"],
)
async def test_a_job_that_speaks_of_keys_is_not_the_miners_fault(
    server: FakeServer, engine: OpenAIEngine, message: str
) -> None:
    server.status, server.pieces = 400, [json.dumps({"error": {"message": message}}).encode()]
    with pytest.raises(BadRequest):
        await chunks_of(engine, job())


async def test_a_list_of_errors_is_told_in_words(server: FakeServer, engine: OpenAIEngine) -> None:
    error = {"code": 400, "message": "max_tokens is negative", "status": "INVALID_ARGUMENT"}
    server.status, server.pieces = 400, [json.dumps([{"error": error}]).encode()]
    with pytest.raises(BadRequest, match=r"^max_tokens is negative \(.*400 INVALID_ARGUMENT\)$"):
        await chunks_of(engine, job())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://[bad", "http://x:port/", "//", "", "http://127.0.0.1:1/v1", "\xff"]
)
async def test_nobody_goes_where_a_server_sends_the_miner(
    server: FakeServer, engine: OpenAIEngine, status: int, location: str
) -> None:
    server.status, server.answer_headers = status, [(b"location", location.encode("latin-1"))]
    with pytest.raises(EngineUnusable, match=f"base_url.*{status}"):
        await chunks_of(engine, job())
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "told",
    [
        {"message": "x", "code": 429},
        {"message": "x", "code": "rate_limit_exceeded"},
        {"message": "x"},
        {"detail": "x"},
        {"type": "error"},
    ],
)
async def test_a_flat_error_within_an_answer_is_one(
    server: FakeServer, engine: OpenAIEngine, told: dict[str, Any]
) -> None:
    server.lines = [f"event: error\ndata: {json.dumps(told)}", f"data: {json.dumps(STOPPED)}"]
    with pytest.raises(EngineError) as caught:
        await chunks_of(engine, job())
    assert caught.value.fault is Fault.PASSING


@pytest.mark.parametrize("data", ["ping", "null", "", "  ", " null "])
async def test_what_keeps_a_connection_alive_says_nothing(
    server: FakeServer, engine: OpenAIEngine, data: str
) -> None:
    server.answer("Hel", "lo")
    server.lines.insert(2, f"data: {data}")
    assert text_of(await chunks_of(engine, job())) == "Hello"


@pytest.mark.parametrize(
    ("reasoning", "told"),
    [
        (False, ""),
        (None, ""),
        ({}, ""),
        (7, ""),
        ({"effort": "low"}, ""),
        ({"text": "hm"}, "hm"),
        ({"type": "reasoning", "text": "hm"}, "hm"),
        ({"summary": "hm"}, "hm"),
        ({"summary": [{"type": "summary_text", "text": "hm"}]}, "hm"),
        ({"text": None, "summary": "hm"}, "hm"),
    ],
)
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_in_an_odd_shape_does_not_cost_the_answer(
    server: FakeServer, engine: OpenAIEngine, name: str, reasoning: Any, told: str
) -> None:
    said = await answer_of(server, engine, delta(content="so", **{name: reasoning}), STOPPED)
    assert (text_of(said), "".join(chunk.reasoning for chunk in said)) == ("so", told)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"message": "x", "code": 401}, Fault.MINER),
        ({"message": "x", "code": "429"}, Fault.PASSING),
        ({"message": "x", "type": "overloaded_error"}, Fault.PASSING),
        ({"message": "x", "code": 400}, Fault.JOB),
        ("out of memory", Fault.PASSING),
        (["odd"], Fault.PASSING),
    ],
)
async def test_an_error_within_an_answer_is_told_by_its_code(
    server: FakeServer, engine: OpenAIEngine, error: Any, fault: Fault
) -> None:
    with pytest.raises(EngineError) as caught:
        await answer_of(server, engine, delta(content="x"), {"error": error})
    assert caught.value.fault is fault


async def test_a_page_is_no_api(server: FakeServer, engine: OpenAIEngine) -> None:
    server.answer_headers = [(b"content-type", b"text/html; charset=utf-8")]
    server.lines = ["<html>"]
    with pytest.raises(EngineUnusable, match="base_url"):
        await chunks_of(engine, job())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "99999999"}, 300.0),
        ({"retry-after": "inf"}, 300.0),
        ({"retry-after": "2, 2"}, 2.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT, Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 300.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_how_long_to_wait_is_read_in_both_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, clock=lambda: 40.0) == seconds


async def test_a_busy_server_says_for_how_long(server: FakeServer, engine: OpenAIEngine) -> None:
    server.status, server.answer_headers = 429, [(b"retry-after", b"7")]
    with pytest.raises(EngineBusy) as caught:
        await chunks_of(engine, job())
    assert caught.value.retry_after_s == 7.0


async def test_a_busy_server_may_say_so_twice(server: FakeServer, engine: OpenAIEngine) -> None:
    server.status, server.answer_headers = 429, [(b"retry-after", b"2")] * 2
    with pytest.raises(EngineBusy) as caught:
        await chunks_of(engine, job())
    assert caught.value.retry_after_s == 2.0


async def test_half_a_character_in_a_job_can_be_sent(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("x")
    tool = Tool("f", "", {"description": "\ud800"})
    assert text_of(await chunks_of(engine, job(tools=(tool,)))) == "x"


async def test_hints_that_a_server_does_not_know_are_left_out_from_then_on(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("x")
    server.unknown_field = "reasoning_effort"
    asked = job(options=PromptOptions(reasoning_effort="low"))
    for _ in range(2):
        assert text_of(await chunks_of(engine, asked)) == "x"
    assert ["reasoning_effort" in body for body in server.bodies] == [True, False, False]
    assert all("stream_options" in body for body in server.bodies)


@pytest.mark.parametrize(
    "asked",
    [
        {"params": {"logit_bias": {5: 1.0}}},
        {"params": {"allowed_token_ids": [5]}},
        {"params": {"min_tokens": 5}},
        {"params": {"ignore_eos": True}},
        {"params": {"bad_words": ["a"]}},
        {"params": {"prompt_logprobs": 1}},
        {"options": PromptOptions(chat_template_kwargs={"a": 1})},
        {"options": PromptOptions(truncate_prompt_tokens=4)},
        {"form": Form(regex="a+")},
        {"form": Form()},
    ],
)
async def test_what_holds_an_answer_is_never_left_out(
    server: FakeServer, engine: OpenAIEngine, asked: dict[str, Any]
) -> None:
    server.answer("x")
    held = Job(request_id="1", model="llama3.2", prompt="p", **{"params": {}, **asked})
    plain = Job(request_id="2", model="llama3.2", prompt="p", params={})
    (field,) = openai_bodies(held) - openai_bodies(plain) - hints_of(held).keys()
    server.unknown_field = field
    server.unknown_body = {"error": {"message": f"no {field} here", "param": field}}
    with pytest.raises(BadRequest, match=f"^{field}: no {field} here"):
        await chunks_of(engine, held)
    assert len(server.bodies) == 1


def openai_bodies(asked: Job) -> set[str]:
    return set(body_of(asked, "m", is_raw=False, reasoning_word=None))


async def test_a_prompt_of_tokens_goes_to_the_completions_endpoint(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.lines = ['data: {"choices": [{"text": "raw", "finish_reason": "stop"}]}', "data: [DONE]"]
    asked = Job(request_id="1", model="llama3.2", prompt_token_ids=(5, 6), params={})
    assert text_of(await chunks_of(engine, asked)) == "raw"
    assert (server.path, server.body["prompt"]) == ("/v1/completions", [5, 6])
    assert not engine.can_resume(replace(asked, resume=Resume("a", 1)))


async def test_nothing_of_an_answer_is_told_to_who_asks_for_no_tokens(
    server: FakeServer, engine: OpenAIEngine
) -> None:
    server.answer("x")
    asked = Job(request_id="1", model="llama3.2", prompt="p", params={"max_tokens": 0})
    chunks = await chunks_of(engine, asked)
    assert text_of(chunks) == ""
    assert (chunks[-1].finish_reason, chunks[-1].prompt_tokens) == ("length", 11)


async def test_a_refusal_tells_nobody_where_the_server_is(server: FakeServer) -> None:
    engine = make_engine(base_url=server.url, api_key="sk-secret-of-the-miner")
    server.status = 400
    message = f"cannot do this at {server.url}/chat/completions with sk-secret-of-the-miner"
    server.lines = [json.dumps({"error": {"message": message}})]
    with pytest.raises(BadRequest) as caught:
        await chunks_of(engine, job())
    assert "cannot do this at" in str(caught.value)
    assert server.url.removeprefix("http://").removesuffix("/v1") not in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    await engine.close()


@pytest.mark.parametrize(
    ("models", "length"),
    [
        ({"data": [{"id": "upstream-name", "max_model_len": 4096}]}, 4096),
        ({"data": [{"id": "other", "max_model_len": 1}, {"id": "upstream-name"}]}, None),
        ([{"id": "upstream-name", "context_length": 8192}], 8192),
        ({"data": [{"id": "upstream-name", "max_model_len": "4096"}]}, None),
        ({"data": [{"id": "upstream-name", "max_model_len": -1}]}, None),
        ({"data": [7, {"id": []}]}, None),
        ({"data": 7}, None),
        (None, None),
    ],
)
async def test_how_much_a_model_takes_is_told_as_its_server_says(
    server: FakeServer, engine: OpenAIEngine, models: object, length: int | None
) -> None:
    server.models = models
    await engine.start()
    assert engine.describe("llama3.2").max_model_len == length


async def test_a_server_that_is_not_there_does_not_keep_the_engine_from_starting() -> None:
    engine = make_engine(base_url="http://127.0.0.1:9/v1")
    await engine.start()
    assert engine.describe("llama3.2").max_model_len is None
    await engine.close()

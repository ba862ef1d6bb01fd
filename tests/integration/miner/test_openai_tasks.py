"""What the openai engine asks a server beside answers, and what it makes of what it is told."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from aitbc_miner.engines.base import Job, Message, PromptOptions
from aitbc_miner.engines.openai import OpenAIEngine, OpenAIOptions
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.engines.task_border import checked
from aitbc_miner.engines.tasks import Input, Made, Output, Task
from aitbc_miner.errors import (
    BadRequest,
    EngineAnswerInvalid,
    EngineUnusable,
    Misconfigured,
)

TIMEOUT_S = 20.0


class Server:
    """Answers each path with what the test says, and 404 on all others."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Any] = {}
        self.status = 200
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one request."""
        content = b""
        while (message := await receive()).get("more_body"):
            content += message["body"]
        self.asked.append((scope["path"], json.loads(content + message["body"])))
        is_there = scope["path"] in self.answers
        told = self.answers.get(scope["path"], {"detail": "Not Found"})
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        start = {"status": self.status if is_there else 404, "headers": []}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    app = Server()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        running = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical"))
        serving = asyncio.create_task(running.serve([listener]))
        yield app
        running.should_exit = True
        await asyncio.wait_for(serving, TIMEOUT_S)


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[OpenAIEngine]:
    engine = engine_of(base_url=server.url)
    yield engine
    await engine.close()


def engine_of(**options: str) -> OpenAIEngine:
    parsed = OpenAIOptions.parse(EngineOptions("openai", options))
    return OpenAIEngine({"m": "upstream"}, None, parsed)


def asking(task: Task, *inputs: Input, **fields: Any) -> Job:
    fields.setdefault("params", {})
    return Job(request_id="1", model="m", task=task, inputs=inputs, **fields)


async def made_by(engine: OpenAIEngine, job: Job) -> Made:
    async with asyncio.timeout(TIMEOUT_S):
        return checked(job, await engine.perform(job), 2**20)


async def test_vectors_come_in_the_order_of_the_inputs(
    server: Server, engine: OpenAIEngine
) -> None:
    server.answers["/v1/embeddings"] = {
        "data": [{"index": 1, "embedding": [0.5, 2]}, {"index": 0, "embedding": [-1.0, 0.25]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    job = asking(Task.EMBED, Input(text="a"), Input(text="b"), dimensions=2)
    made = await made_by(engine, job)
    assert [list(one.vector) for one in made.outputs] == [[-1.0, 0.25], [0.5, 2.0]]
    assert (made.prompt_tokens, made.is_estimated) == (7, False)
    body = {"model": "upstream", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2}
    assert server.asked == [("/v1/embeddings", body)]


async def test_a_conversation_has_a_vector(server: Server, engine: OpenAIEngine) -> None:
    server.answers["/v1/embeddings"] = {"data": [{"embedding": [0.5]}]}
    job = asking(
        Task.EMBED,
        messages=(Message(role="user", content="hi"),),
        options=PromptOptions(add_generation_prompt=False, truncation_side="right"),
        use_activation=False,
    )
    made = await made_by(engine, job)
    assert [list(one.vector) for one in made.outputs] == [[0.5]]
    [(_, body)] = server.asked
    assert body == {
        "model": "upstream",
        "messages": [{"role": "user", "content": "hi"}],
        "encoding_format": "float",
        "add_generation_prompt": False,
        "truncation_side": "right",
        "use_activation": False,
    }


@pytest.mark.parametrize("path", ["/v1/score", "/v1/rerank"])
async def test_a_score_is_made_of_so_many_tokens(
    server: Server, engine: OpenAIEngine, path: str
) -> None:
    server.answers["/v1/score"] = {"data": [{"score": 1}]}
    server.answers["/v1/rerank"] = {"results": [{"index": 0, "relevance_score": 1}]}
    if path == "/v1/rerank":
        del server.answers["/v1/score"]
    options = PromptOptions(max_tokens_per_query=3, max_tokens_per_document=4)
    await made_by(engine, asking(Task.SCORE, Input(text="q", text_pair="a"), options=options))
    asked, body = server.asked[-1]
    assert asked == path
    assert (body["max_tokens_per_query"], body["max_tokens_per_doc"]) == (3, 4)


async def test_texts_and_tokens_are_asked_apart(server: Server, engine: OpenAIEngine) -> None:
    server.answers["/v1/embeddings"] = {"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}
    inputs = Input(text="abcd"), Input(token_ids=(1, 2)), Input(text="b"), Input(token_ids=(3,))
    made = await made_by(engine, asking(Task.EMBED, *inputs))
    assert [list(one.vector) for one in made.outputs] == [[1.0], [1.0], [2.0], [2.0]]
    assert [body["input"] for _, body in server.asked] == [["abcd", "b"], [[1, 2], [3]]]
    # Nobody counted.
    assert (made.prompt_tokens, made.is_estimated) == (5, True)


async def test_pairs_are_scored(server: Server, engine: OpenAIEngine) -> None:
    server.answers["/v1/score"] = {
        "data": [{"index": 0, "score": 0.5}, {"index": 1, "score": -1}],
        "usage": {"prompt_tokens": 9},
    }
    pairs = Input(text="q", text_pair="a"), Input(text="q", text_pair="b")
    made = await made_by(engine, asking(Task.SCORE, *pairs))
    assert [one.score for one in made.outputs] == [0.5, -1.0]
    assert made.prompt_tokens == 9
    body = {"model": "upstream", "text_1": ["q", "q"], "text_2": ["a", "b"]}
    assert server.asked == [("/v1/score", body)]


async def test_a_server_that_only_orders_documents_scores_them_so(
    server: Server, engine: OpenAIEngine
) -> None:
    server.answers["/v1/rerank"] = {
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
        "usage": {"total_tokens": 4},
    }
    pairs = [Input(text=q, text_pair=d) for q, d in ("qa", "qb", "pa", "pc")]
    for _ in range(2):
        made = await made_by(engine, asking(Task.SCORE, *pairs))
        assert [one.score for one in made.outputs] == [0.1, 0.9, 0.1, 0.9]
        assert made.prompt_tokens == 8
    paths = [path for path, _ in server.asked]
    assert paths == ["/v1/score", *["/v1/rerank"] * 4]
    assert server.asked[1][1] == {
        "model": "upstream",
        "query": "q",
        "documents": ["a", "b"],
        "top_n": 2,
    }


async def test_tokens_are_asked_for_beside_v1(server: Server, engine: OpenAIEngine) -> None:
    server.answers = {
        "/tokenize": {"tokens": [1, 2], "token_strs": ["a", "b"], "count": 2},
        "/detokenize": {"prompt": "ab"},
    }
    made = await made_by(engine, asking(Task.TOKENIZE, Input(text="ab")))
    assert list(made.outputs[0].token_ids) == [1, 2]
    assert not made.outputs[0].tokens
    assert server.asked == [("/tokenize", {"model": "upstream", "prompt": "ab"})]
    messages = (Message(role="user", content="u"),)
    job = asking(Task.TOKENIZE, messages=messages, params={"return_token_ids": True})
    assert (await made_by(engine, job)).outputs[0].tokens == ["a", "b"]
    assert server.asked[-1][1] == {
        "model": "upstream",
        "messages": [{"role": "user", "content": "u"}],
        "return_token_strs": True,
    }
    job = asking(Task.DETOKENIZE, Input(token_ids=(1, 2)))
    assert (await made_by(engine, job)).outputs == [Output(text="ab")]
    assert server.asked[-1] == ("/detokenize", {"model": "upstream", "tokens": [1, 2]})


@pytest.mark.parametrize(
    ("job", "path"),
    [
        (asking(Task.TOKENIZE, Input(text="ab")), "/tokenize"),
        (asking(Task.DETOKENIZE, Input(token_ids=(1,))), "/detokenize"),
        (asking(Task.EMBED, Input(text="ab")), "/v1/embeddings"),
        (asking(Task.SCORE, Input(text="a", text_pair="b")), "/v1/rerank"),
    ],
)
async def test_what_a_server_does_not_have_is_told_plainly(
    server: Server, engine: OpenAIEngine, job: Job, path: str
) -> None:
    with pytest.raises(BadRequest, match=f"has no {path}: it answered 404"):
        await made_by(engine, job)
    server.status = 404
    server.answers[path] = {"error": {"message": "no such model", "code": "model_not_found"}}
    with pytest.raises(EngineUnusable, match="does not have the model"):
        await made_by(engine, job)


EMBED, SCORE = asking(Task.EMBED, Input(text="a")), asking(Task.SCORE, Input(text="a"))
TOKENIZE = asking(Task.TOKENIZE, Input(text="a"))


@pytest.mark.parametrize(
    ("job", "path", "told"),
    [
        (EMBED, "/v1/embeddings", b"nothing"),
        (EMBED, "/v1/embeddings", []),
        (EMBED, "/v1/embeddings", {"data": 7}),
        (EMBED, "/v1/embeddings", {"data": [7]}),
        (EMBED, "/v1/embeddings", {"data": [{"index": 1, "embedding": [1.0]}]}),
        (EMBED, "/v1/embeddings", {"data": [{"index": [0], "embedding": [1.0]}]}),
        (EMBED, "/v1/embeddings", {"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}),
        (EMBED, "/v1/embeddings", {"data": [{"index": 0, "embedding": "AACAPw=="}]}),
        (EMBED, "/v1/embeddings", {"data": [{"index": 0}]}),
        (SCORE, "/v1/score", {"data": [{"index": 0, "score": "high"}]}),
        (SCORE, "/v1/rerank", {"results": []}),
        (TOKENIZE, "/tokenize", {"tokens": 7}),
        (TOKENIZE, "/tokenize", {"tokens": [1], "token_strs": 7}),
    ],
)
async def test_what_is_no_output_is_refused(
    server: Server, engine: OpenAIEngine, job: Job, path: str, told: Any
) -> None:
    server.answers[path] = told
    with pytest.raises(EngineAnswerInvalid):
        await made_by(engine, job)


async def test_what_a_server_does_is_an_option() -> None:
    url = "http://127.0.0.1:1/v1"
    plain = (Task.GENERATE, Task.TOKENIZE, Task.DETOKENIZE)
    assert engine_of(base_url=url).describe("m").tasks == plain
    engine = engine_of(base_url=url, tasks="embed, score")
    assert engine.describe("m").tasks == (Task.EMBED, Task.SCORE)
    with pytest.raises(Misconfigured, match="'sing' is none of generate, embed"):
        engine_of(base_url=url, tasks="sing")
    with pytest.raises(EngineUnusable, match="cannot be reached"):
        await made_by(engine, EMBED)


async def test_how_a_prompt_is_made_is_passed_on(server: Server, engine: OpenAIEngine) -> None:
    server.answers = {
        "/tokenize": {"tokens": [1]},
        "/v1/embeddings": {"data": [{"embedding": [1.0]}]},
        "/v1/score": {"data": [{"score": 1.0}]},
    }
    options = PromptOptions(add_special_tokens=False, truncate_prompt_tokens=4)
    for task in (Task.EMBED, Task.SCORE, Task.TOKENIZE):
        await made_by(engine, asking(task, Input(text="a"), options=options))
        body = server.asked[-1][1]
        assert (body["add_special_tokens"], body["truncate_prompt_tokens"]) == (False, 4)
    part = {"type": "image_url", "image_url": {"url": "data:,"}}
    turn = Message(role="user", content="", parts=[part], reasoning="hm")
    options = PromptOptions(chat_template_kwargs={"a": 1}, add_generation_prompt=False)
    await made_by(engine, asking(Task.TOKENIZE, messages=(turn,), options=options))
    assert server.asked[-1][1] == {
        "model": "upstream",
        "messages": [{"role": "user", "content": [part]}],
        "chat_template_kwargs": {"a": 1},
        "add_generation_prompt": False,
    }

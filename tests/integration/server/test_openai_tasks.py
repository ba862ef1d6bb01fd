"""Embeddings, scores and tokens over HTTP, with a miner whose every output the test says."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from aitbc.v1 import jobs_pb2, network_pb2, work_pb2
from aitbc_server.openai.operations import OPERATIONS
from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S, Client, FakeMiner, coordinator
from tests.integration.server.test_openai_api import both

ALL = work_pb2.ModelInfo(model="m", max_model_len=512, tasks=list(jobs_pb2.JobTask.values())[1:])
BY_PATH = {operation.path: operation for operation in OPERATIONS}
Served = tuple[Client, FakeMiner, httpx.AsyncClient]


@asynccontextmanager
async def served(
    data: Path, *infos: work_pb2.ModelInfo, window: int = 64, **settings: Any
) -> AsyncIterator[Served]:
    async with (
        coordinator(data, **settings) as client,
        client.miner(infos=infos or [ALL], window=window) as miner,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        yield client, miner, http


async def perform(
    miner: FakeMiner, *outputs: jobs_pb2.TaskOutput, tokens: int = 0
) -> list[work_pb2.Assignment]:
    """Takes jobs until all of the outputs are theirs, and answers them."""
    taken: list[work_pb2.Assignment] = []
    left = list(outputs)
    while left:
        for assignment in (await miner.next("assignments")).assignments.assignments:
            count = len(assignment.job.inputs) or 1
            completion = work_pb2.Completion(
                outputs=left[:count],
                finish_reason="stop",
                usage=jobs_pb2.Usage(prompt_tokens=tokens, completion_tokens=0),
            )
            del left[:count]
            update = work_pb2.Update(lease_id=assignment.lease_id, completion=completion)
            await miner.send(updates=work_pb2.Updates(updates=[update]))
            taken.append(assignment)
    return taken


def vector(*numbers: float) -> jobs_pb2.TaskOutput:
    return jobs_pb2.TaskOutput(vector=numbers)


def score(number: float) -> jobs_pb2.TaskOutput:
    return jobs_pb2.TaskOutput(score=number)


async def asked(
    served: Served, path: str, body: dict[str, Any], *outputs: jobs_pb2.TaskOutput, tokens: int = 0
) -> tuple[Any, list[jobs_pb2.Job]]:
    """Returns what is answered, which is as the document says, and the jobs behind it."""
    _, miner, http = served
    response, taken = await both(
        http.post(path, json=body), perform(miner, *outputs, tokens=tokens)
    )
    assert response.status_code == 200, response.text
    BY_PATH[path].answer.model_validate_json(response.content)
    return response.json(), [assignment.job for assignment in taken]


async def refused(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    response = await http.post(path, json=body)
    error = response.json()["error"]
    return response.status_code, (error["code"], error["param"], error["message"])


async def test_openais_client_makes_embeddings(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, miner, _),
        openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="x", max_retries=0) as api,
    ):
        made, [assignment] = await both(
            api.embeddings.create(model="m", input=["one", "two"], dimensions=2, user="u"),
            perform(miner, vector(0.5, -0.25), vector(1.0, 3e38), tokens=4),
        )
        assert [one.embedding for one in made.data] == [[0.5, -0.25], [1.0, pytest.approx(3e38)]]
        assert [one.index for one in made.data] == [0, 1]
        assert (made.usage.prompt_tokens, made.usage.total_tokens) == (4, 4)
        job = assignment.job
        assert (job.task, job.dimensions) == (jobs_pb2.JOB_TASK_EMBED, 2)
        assert [one.text for one in job.inputs] == ["one", "two"]
        assert (await client.job(job.job_id)).user == "u"


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("one", [jobs_pb2.TaskInput(text="one")]),
        (["one"], [jobs_pb2.TaskInput(text="one")]),
        ([1, 2], [jobs_pb2.TaskInput(token_ids=[1, 2])]),
        ([[1], [2, 3]], [jobs_pb2.TaskInput(token_ids=[1]), jobs_pb2.TaskInput(token_ids=[2, 3])]),
    ],
)
async def test_inputs_have_four_forms(
    tmp_path: Path, given: Any, inputs: list[jobs_pb2.TaskInput]
) -> None:
    async with served(tmp_path) as here:
        body = {"model": "m", "input": given}
        told, [job] = await asked(here, "/v1/embeddings", body, *[vector(0.5)] * len(inputs))
        assert list(job.inputs) == inputs
        assert [one["embedding"] for one in told["data"]] == [[0.5]] * len(inputs)


async def test_a_vector_in_base64_is_of_little_endian_singles(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        body = {"model": "m", "input": "one", "encoding_format": "base64"}
        told, _ = await asked(here, "/v1/embeddings", body, vector(1.0, -2.0))
        assert told["data"][0]["embedding"] == "AACAPwAAAMA="


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [
        ({"embed_dtype": "float16"}, "003c00c0"),
        ({"embed_dtype": "bfloat16", "endianness": "big"}, "3f80c000"),
        ({"embed_dtype": "fp8_e5m2", "endianness": "native"}, "3cc0"),
    ],
)
async def test_the_numbers_of_bytes_are_those_asked_for(
    tmp_path: Path, asked_for: dict[str, Any], expected: str
) -> None:
    async with served(tmp_path) as here:
        body = {"model": "m", "input": "one", **asked_for}
        in_base64 = {**body, "encoding_format": "base64"}
        told, _ = await asked(here, "/v1/embeddings", in_base64, vector(1.0, -2.0))
        assert b64decode(told["data"][0]["embedding"]).hex() == expected
        # Numbers are told as they are.
        told, _ = await asked(here, "/v1/embeddings", body, vector(1.0, -2.0))
        assert told["data"][0]["embedding"] == [1.0, -2.0]


async def test_vectors_are_told_as_bytes_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, http):
        body = {"model": "m", "input": ["a", "b"], "embed_dtype": "float16"}
        for form in ("bytes", "bytes_only"):
            response, [assignment] = await both(
                http.post("/v1/embeddings", json={**body, "encoding_format": form}),
                perform(miner, vector(1.0, -2.0), vector(0.5, 0.0), tokens=3),
            )
            assert response.headers["content-type"] == "application/octet-stream"
            assert response.headers["x-job-id"] == assignment.job.job_id
            assert response.content.hex() == "003c00c0" + "00380000"
            if form == "bytes_only":
                assert "metadata" not in response.headers
                continue
            told = json.loads(response.headers["metadata"])
            assert told["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
            assert (told["model"], told["id"]) == ("m", f"embd-{assignment.job.job_id[4:]}")
            about = {"embed_dtype": "float16", "endianness": "native"}
            assert told["data"] == [
                {**about, "index": 0, "start": 0, "end": 4, "shape": [2]},
                {**about, "index": 1, "start": 4, "end": 8, "shape": [2]},
            ]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]},
        {"input": [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]},
    ],
    ids=["messages", "input"],
)
async def test_a_conversation_is_a_job(tmp_path: Path, body: dict[str, Any]) -> None:
    async with served(tmp_path) as here:
        told, jobs = await asked(
            here, "/v1/embeddings", {"model": "m", **body}, vector(0.5), vector(1.5), tokens=4
        )
        assert [one["embedding"] for one in told["data"]] == [[0.5], [1.5]]
        assert told["usage"]["prompt_tokens"] == 8
        for job, said in zip(jobs, ("a", "b"), strict=True):
            assert list(job.messages) == [jobs_pb2.ChatMessage(role="user", content=said)]
            assert job.task == jobs_pb2.JOB_TASK_EMBED
            assert job.prompt_options.add_generation_prompt is False


async def test_what_is_embedded_is_given_once(tmp_path: Path) -> None:
    message = {"role": "user", "content": "a"}
    async with served(tmp_path) as (_, _, http):
        for body, param in (
            ({}, "input"),
            ({"input": "a", "messages": [message]}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": [[message]] * 257}, "messages"),
            ({"messages": [[message], [{"content": "a"}]]}, "messages[1][0].role"),
            ({"input": [message, {"role": "user", "content": 1}]}, "input[1].content"),
        ):
            status, (_, named, _) = await refused(http, "/v1/embeddings", {"model": "m", **body})
            assert (status, named) == (400, param)


async def test_many_inputs_are_several_jobs_that_come_and_go_together(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        client, miner, http = here
        body = {"model": "m", "input": [str(number) for number in range(150)]}
        outputs = [vector(float(number)) for number in range(150)]
        told, jobs = await asked(here, "/v1/embeddings", body, *outputs, tokens=100)
        assert [len(job.inputs) for job in jobs] == [64, 64, 22]
        assert [one["embedding"] for one in told["data"]] == [[number] for number in range(150)]
        assert told["usage"]["prompt_tokens"] == 300
        request = asyncio.create_task(http.post("/v1/embeddings", json=body))
        assignments = await miner.next("assignments")
        lease = assignments.assignments.assignments[0].lease_id
        await miner.fail(lease, "BAD_REQUEST", retryable=False)
        response = await request
        assert response.status_code == 400
        job_ids = response.headers["x-job-id"].split(",")
        ended = {(await client.job(job_id, wait=5)).status for job_id in job_ids[1:]}
        assert len(job_ids) == 3
        cancelled = (await miner.next("cancellations")).cancellations.cancellations
        assert cancelled or ended == {jobs_pb2.JOB_STATUS_CANCELLED}


async def test_long_inputs_are_jobs_of_a_megabyte(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        body = {"model": "m", "input": ["x" * 600_000] * 3}
        _, jobs = await asked(here, "/v1/embeddings", body, *[vector(1.0)] * 3)
        assert [len(job.inputs) for job in jobs] == [1, 1, 1]


async def test_a_repeated_request_finds_the_same_jobs(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        _, miner, http = here
        key = {"idempotency-key": "once"}
        body = {"model": "m", "input": ["a"] * 65}
        first, _ = await both(
            http.post("/v1/embeddings", json=body, headers=key),
            perform(miner, *[vector(1.0)] * 65),
        )
        again = await http.post("/v1/embeddings", json=body, headers=key)
        assert again.json()["data"] == first.json()["data"]
        assert again.headers["x-job-id"] == first.headers["x-job-id"]


async def test_a_client_that_goes_cancels_its_jobs(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, http):
        request = asyncio.create_task(
            http.post("/v1/embeddings", json={"model": "m", "input": "a"})
        )
        [assignment] = await miner.assignments()
        request.cancel()
        [cancelled] = (await miner.next("cancellations")).cancellations.cancellations
        assert cancelled.lease_id == assignment.lease_id


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
async def test_documents_are_told_in_their_order(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as here:
        body = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2}
        told, [job] = await asked(here, path, body, score(0.25), score(0.75), score(0.5), tokens=9)
        assert [(one.text, one.text_pair) for one in job.inputs] == [
            ("q", "a"),
            ("q", "b"),
            ("q", "c"),
        ]
        assert told["results"] == [
            {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
            {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
        ]
        assert told["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
        body = {"model": "m", "query": "q", "documents": "a", "return_documents": False}
        told, _ = await asked(here, path, body, score(-1.5))
        assert told["results"] == [{"index": 0, "relevance_score": -1.5}]


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        ({"text_1": "a", "text_2": "x"}, [("a", "x")]),
        ({"text_1": "a", "text_2": ["x", "y"]}, [("a", "x"), ("a", "y")]),
        ({"queries": ["a", "b"], "documents": ["x", "y"]}, [("a", "x"), ("b", "y")]),
        ({"queries": "a", "items": ["x", ""]}, [("a", "x"), ("a", "")]),
        ({"data_1": ["a"], "data_2": ["x", "y"]}, [("a", "x"), ("a", "y")]),
    ],
)
async def test_pairs_are_scored_by_any_of_their_names(
    tmp_path: Path, path: str, body: dict[str, Any], pairs: list[tuple[str, str]]
) -> None:
    async with served(tmp_path) as here:
        scores = [score(0.5 + place) for place in range(len(pairs))]
        told, [job] = await asked(here, path, {"model": "m", **body}, *scores)
        assert [(one.text, one.text_pair) for one in job.inputs] == pairs
        assert told["data"] == [
            {"index": place, "object": "score", "score": 0.5 + place} for place in range(len(pairs))
        ]


async def test_prompts_and_conversations_are_tokenized(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        output = jobs_pb2.TaskOutput(token_ids=[5, 6], tokens=["a", "b"])
        body: dict[str, Any] = {"model": "m", "prompt": "ab", "add_special_tokens": False}
        told, [job] = await asked(here, "/tokenize", body, jobs_pb2.TaskOutput(token_ids=[5, 6]))
        assert told == {"count": 2, "max_model_len": 512, "tokens": [5, 6], "token_strs": None}
        assert (job.task, job.inputs[0].text) == (jobs_pb2.JOB_TASK_TOKENIZE, "ab")
        assert job.prompt_options.add_special_tokens is False
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "return_token_strs": True,
            "continue_final_message": True,
            "chat_template_kwargs": {"thinks": False},
        }
        told, [job] = await asked(here, "/tokenize", body, output)
        assert told["token_strs"] == ["a", "b"]
        assert [message.content for message in job.messages] == ["hi"]
        assert [tool.name for tool in job.tools] == ["f"]
        assert job.params.return_token_ids
        assert job.prompt_options.continue_final_message
        assert job.prompt_options.chat_template_kwargs == '{"thinks":false}'
        told, [job] = await asked(
            here, "/detokenize", {"model": "m", "tokens": [5, 6]}, jobs_pb2.TaskOutput(text="ab")
        )
        assert told == {"prompt": "ab"}
        assert list(job.inputs[0].token_ids) == [5, 6]


async def test_a_model_need_not_be_named_where_there_is_one(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        told, _ = await asked(here, "/v1/embeddings", {"input": "a"}, vector(1.0))
        assert told["model"] == "m"
        async with here[0].miner("miner-2", adapters=["n"]):
            status, (code, param, message) = await refused(here[2], "/tokenize", {"prompt": "a"})
            assert (status, code, param) == (400, "missing_required_parameter", "model")
            assert "m, n" in message


USER = {"role": "user", "content": "b"}
HEX = {"input": "a", "encoding_format": "hex"}
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("/v1/embeddings", {}, "missing_required_parameter", "input"),
    ("/v1/embeddings", {"input": []}, "invalid_value", "input"),
    ("/v1/embeddings", {"input": [[]]}, "invalid_value", "input[0]"),
    ("/v1/embeddings", {"input": ["a", 1]}, "invalid_value", "input[1]"),
    ("/v1/embeddings", {"input": [-1]}, "invalid_value", "input[0]"),
    ("/v1/embeddings", {"input": [{}]}, "missing_required_parameter", "input[0].role"),
    ("/v1/embeddings", {"input": [1.5]}, "invalid_value", "input[0]"),
    ("/v1/embeddings", {"input": [1, "a"]}, "invalid_value", "input[1]"),
    ("/v1/embeddings", {"input": ["a"] * 2049}, "invalid_value", "input"),
    ("/v1/embeddings", {"input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
    ("/v1/embeddings", HEX, "invalid_value", "encoding_format"),
    ("/v1/embeddings", {"input": "a", "padding": "max_length"}, "unsupported_parameter", "padding"),
    ("/v1/rerank", {"documents": ["a"]}, "missing_required_parameter", "query"),
    ("/v1/rerank", {"query": "q", "documents": []}, "invalid_value", "documents"),
    ("/v1/rerank", {"query": "q", "documents": [1]}, "invalid_value", "documents[0]"),
    ("/v1/rerank", {"query": "q", "documents": ["a"], "top_n": -1}, "invalid_value", "top_n"),
    ("/v1/score", {}, "missing_required_parameter", "text_1"),
    ("/v1/score", {"text_1": "a"}, "missing_required_parameter", "text_2"),
    ("/v1/score", {"queries": "a"}, "missing_required_parameter", "documents"),
    ("/v1/score", {"items": "a"}, "missing_required_parameter", "queries"),
    ("/v1/score", {"data_2": "a"}, "missing_required_parameter", "data_1"),
    ("/v1/score", {"text_1": ["a", "b"], "text_2": ["x"]}, "invalid_value", "text_2"),
    ("/tokenize", {}, "missing_required_parameter", "prompt"),
    ("/tokenize", {"prompt": "a", "messages": [USER]}, "invalid_value", "messages"),
    (
        "/tokenize",
        {"messages": [USER], "continue_final_message": True, "add_generation_prompt": True},
        "invalid_value",
        "add_generation_prompt",
    ),
    ("/detokenize", {}, "missing_required_parameter", "tokens"),
    ("/detokenize", {"tokens": [2**31]}, "invalid_value", "tokens[0]"),
]  # fmt: skip


async def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, http):
        for path, body, code, param in BAD:
            status, told = await refused(http, path, {"model": "m", **body})
            assert (status, *told[:2]) == (400, code, param), told


async def test_what_the_model_does_not_do_is_refused_with_what_it_does(tmp_path: Path) -> None:
    async with served(tmp_path, work_pb2.ModelInfo(model="m")) as (_, _, http):
        body = {"model": "m", "input": "a"}
        assert await refused(http, "/v1/embeddings", body) == (
            400,
            ("task_not_served", "model", "the model m does not embed: its miners generate"),
        )
        body = {"model": "none", "input": "a"}
        status, told = await refused(http, "/v1/embeddings", body)
        assert (status, *told[:2]) == (404, "model_not_found", "model")


async def test_what_a_miner_refuses_is_told_of_the_input(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, http):
        request = asyncio.create_task(refused(http, "/v1/embeddings", {"model": "m", "input": "a"}))
        [assignment] = await miner.assignments()
        await miner.fail(assignment.lease_id, "CONTEXT_LENGTH_EXCEEDED", retryable=False)
        status, told = await request
        assert (status, *told) == (400, "context_length_exceeded", "input", "it broke")


async def test_the_server_tells_of_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, _, http):
        stats = await client.network.GetHealth(network_pb2.GetHealthRequest())
        for prefix in ("", "/api"):
            version = await http.get(f"{prefix}/version")
            assert version.json() == {"version": stats.version}
            for method in ("GET", "POST", "HEAD"):
                assert (await http.request(method, f"{prefix}/ping")).status_code == 200
            assert (await http.get(f"{prefix}/load")).json() == {"server_load": 0}
        await client.submit(model="nobody")
        assert (await http.get("/load")).json() == {"server_load": 1}
        assert (await http.post("/load")).status_code == 405


async def test_they_need_no_key_and_the_others_do(tmp_path: Path) -> None:
    async with served(tmp_path, auth="open") as (client, _, http):
        assert (await http.get("/ping")).status_code == 200
    async with (
        coordinator(tmp_path, auth="required") as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        for path in ("/ping", "/version", "/load"):
            assert (await http.get(path)).status_code == 200
        for path in ("/v1/embeddings", "/rerank", "/score", "/tokenize", "/detokenize"):
            assert (await http.post(path, json={})).status_code == 401


async def test_the_gateway_serves_them_too(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, miner, _):
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        target = f"127.0.0.1:{client.coordinator.grpc_port}"
        gateway = asyncio.create_task(
            run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
        )
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await ready}") as http:
            body = {"model": "m", "input": "a"}
            response, _ = await both(
                http.post("/v1/embeddings", json=body), perform(miner, vector(0.5))
            )
            assert response.json()["data"][0]["embedding"] == [0.5]
            assert (await http.get("/load")).json() == {"server_load": 0}
        stop.set()
        await gateway

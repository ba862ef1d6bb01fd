"""What answers tell beside their texts: prompts, tokens, what ended them, and what they cost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.v1 import jobs_pb2
from tests.integration.server.harness import PATIENCE_S
from tests.integration.server.test_openai_api import USER, both, finish, served, tell

CHAT: dict[str, Any] = {"model": "m", "messages": USER}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "Once"}


def token(text: str, token_id: int, logprob: float, rank: int = 1) -> jobs_pb2.TokenLogprob:
    other = jobs_pb2.TokenLogprob(token="x", token_id=9, logprob=-0.1, rank=1)  # noqa: S106 - a word
    return jobs_pb2.TokenLogprob(
        token=text, token_id=token_id, logprob=logprob, rank=rank, top=[other]
    )


PROMPT = jobs_pb2.PromptDetails(
    text="Once upon",
    token_ids=[1, 2],
    logprobs=[jobs_pb2.TokenLogprob(token="Once", token_id=1), token(" upon", 2, -2.5, 3)],  # noqa: S106 - a word
)
ANSWER: dict[str, Any] = {
    "result": " a time",
    "finish_reason": "stop",
    "usage": jobs_pb2.Usage(prompt_tokens=2, completion_tokens=2, cached_tokens=1),
    "logprobs": [token(" a", 3, -0.5), token(" time", 4, -1.5, 2)],
    "token_ids": [3, 4],
    "prompt_details": PROMPT,
}


# Of who asks for the tokens alone.
_BARE = jobs_pb2.PromptDetails(text=PROMPT.text, token_ids=PROMPT.token_ids)


async def asked(
    http: httpx.AsyncClient, miner: Any, path: str, body: dict[str, Any], **answer: Any
) -> tuple[Any, jobs_pb2.Job]:
    """Asks, and answers it with what the job asks for of that."""
    asking = asyncio.create_task(http.post(path, json=body))
    [assignment] = await miner.assignments()
    params = assignment.job.params
    told = {**ANSWER, **answer}
    if not params.HasField("logprobs"):
        told["logprobs"] = ()
    if not params.return_token_ids:
        told["token_ids"] = ()
    if not params.HasField("prompt_logprobs"):
        told["prompt_details"] = _BARE if params.return_token_ids else None
    await finish(miner, assignment.lease_id, 0, **told)
    await miner.expect("acks")
    answered = await asking
    assert answered.status_code == 200, answered.text
    return answered, assignment.job


def chunks_of(answered: httpx.Response) -> list[dict[str, Any]]:
    lines = answered.text.split("\n\n")
    return [httpx.Response(200, text=line[6:]).json() for line in lines if line[6:7] == "{"]


async def test_a_completion_echoes_its_prompt_with_probabilities(tmp_path: Path) -> None:
    """As lm-eval asks for loglikelihoods."""
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        body = {**COMPLETION, "prompt": [1, 2], "echo": True, "logprobs": 1, "max_tokens": 2}
        answered, _ = await asked(http, miner, "/v1/completions", body)
        [choice] = answered.json()["choices"]
        assert choice["text"] == "Once upon a time"
        assert choice["logprobs"] == {
            "tokens": ["Once", " upon", " a", " time"],
            "token_logprobs": [None, -2.5, -0.5, -1.5],
            "top_logprobs": [
                None,
                {" upon": -2.5, "x": -0.1},
                {" a": -0.5, "x": -0.1},
                {" time": -1.5, "x": -0.1},
            ],
            "text_offset": [0, 4, 9, 11],
        }
        one: dict[str, Any] = {
            "result": " a",
            "usage": jobs_pb2.Usage(prompt_tokens=2, completion_tokens=1),
            "logprobs": ANSWER["logprobs"][:1],
            "token_ids": [3],
        }
        only, job = await asked(http, miner, "/v1/completions", {**body, "max_tokens": 0}, **one)
        assert job.params.max_tokens == 1
        [choice] = only.json()["choices"]
        assert choice["text"] == "Once upon"
        assert choice["logprobs"]["token_logprobs"] == [None, -2.5]

        streamed, _ = await asked(http, miner, "/v1/completions", {**body, "stream": True})
        [chunk] = chunks_of(streamed)
        [told] = chunk["choices"]
        [whole] = answered.json()["choices"]
        assert (told["text"], told["logprobs"]) == (whole["text"], whole["logprobs"])


async def test_a_text_is_echoed_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, miner, api):
        done, job = await both(
            api.completions.create(model="m", prompt=["Once", "Twice"], echo=True),
            answer_all(miner, 2),
        )
        assert [choice.text for choice in done.choices] == ["Once a time", "Twice a time"]
        assert not job.params.return_token_ids
        asking = asyncio.create_task(
            api.completions.create(model="m", prompt="Once", echo=True, stream=True)
        )
        [assignment] = await miner.assignments()
        await tell(miner, assignment.lease_id, 0, text=" a")
        chunks = await asking
        assert (await anext(chunks)).choices[0].text == "Once a"
        await finish(miner, assignment.lease_id, 1, result=" a time", finish_reason="stop")
        assert "".join([chunk.choices[0].text async for chunk in chunks]) == " time"


async def answer_all(miner: Any, count: int) -> jobs_pb2.Job:
    assignments = await miner.assignments(count)
    for assignment in assignments:
        await finish(miner, assignment.lease_id, 0, result=" a time", finish_reason="stop")
        await miner.expect("acks")
    job: jobs_pb2.Job = assignments[0].job
    return job


async def test_a_chat_echoes_what_it_goes_on_with(tmp_path: Path) -> None:
    begun = [*USER, {"role": "assistant", "content": "Once"}]
    asks = {"add_generation_prompt": False, "continue_final_message": True, "echo": True}
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        body = {**CHAT, "messages": begun, **asks}
        answered, job = await asked(http, miner, "/v1/chat/completions", body)
        assert job.prompt_options.continue_final_message
        assert answered.json()["choices"][0]["message"]["content"] == "Once a time"
        streamed, _ = await asked(http, miner, "/v1/chat/completions", {**body, "stream": True})
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(streamed)]
        assert [delta["content"] for delta in deltas[:2]] == ["", "Once"]
        assert "".join(delta.get("content", "") for delta in deltas) == "Once a time"
        # Nobody echoes another's words.
        answered, _ = await asked(http, miner, "/v1/chat/completions", {**CHAT, "echo": True})
        assert answered.json()["choices"][0]["message"]["content"] == " a time"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_tokens_of_prompt_and_answer_are_told(tmp_path: Path, path: str) -> None:
    base = CHAT if "chat" in path else COMPLETION
    body = {**base, "return_token_ids": True, "prompt_logprobs": 1}
    likely = [
        None,
        {
            "2": {"logprob": -2.5, "rank": 3, "decoded_token": " upon"},
            "9": {"logprob": -0.1, "rank": 1, "decoded_token": "x"},
        },
    ]
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answered, _ = await asked(http, miner, path, body)
        told = answered.json()
        [choice] = told["choices"]
        assert choice["token_ids"] == [3, 4]
        about_prompt = told if "chat" in path else choice
        assert about_prompt["prompt_token_ids"] == [1, 2]
        assert about_prompt["prompt_logprobs"] == likely
        assert told["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
        assert told["system_fingerprint"]

        del body["prompt_logprobs"]
        streamed, _ = await asked(http, miner, path, {**body, "stream": True})
        chunks = chunks_of(streamed)
        choices = [chunk["choices"][0] for chunk in chunks]
        assert [one for choice in choices for one in choice.get("token_ids") or ()] == [3, 4]
        about_prompt = chunks[-1] if "chat" in path else choices[-1]
        assert about_prompt["prompt_token_ids"] == [1, 2]
        assert chunks[-1]["system_fingerprint"]


async def test_the_text_of_a_prompt_is_told(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        body = {**CHAT, "return_prompt_text": True}
        answered, _ = await asked(http, miner, "/v1/chat/completions", body)
        assert answered.json()["prompt_text"] == "Once upon"
        assert "token_ids" not in answered.json()["choices"][0]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_probabilities_may_name_tokens_by_their_ids(tmp_path: Path, path: str) -> None:
    is_chat = "chat" in path
    asks = {"logprobs": True, "top_logprobs": 1} if is_chat else {"logprobs": 1}
    body = {**(CHAT if is_chat else COMPLETION), **asks, "return_tokens_as_token_ids": True}
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answered, _ = await asked(http, miner, path, body)
        [choice] = answered.json()["choices"]
        assert "token_ids" not in choice
        if is_chat:
            first = choice["logprobs"]["content"][0]
            assert (first["token"], first["bytes"]) == ("token_id:3", list(b" a"))
            assert first["top_logprobs"][0]["token"] == "token_id:9"  # noqa: S105 - a name
        else:
            assert choice["logprobs"]["tokens"] == ["token_id:3", "token_id:4"]
            likeliest = {"token_id:3": -0.5, "token_id:9": -0.1}
            assert choice["logprobs"]["top_logprobs"][0] == likeliest


@pytest.mark.parametrize(
    ("ending", "reason"),
    [({}, None), ({"stop_string": "END"}, "END"), ({"stop_token_id": 0}, 0)],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_what_ended_an_answer_is_told(
    tmp_path: Path, path: str, ending: dict[str, Any], reason: str | int | None
) -> None:
    asks = {"stop": ["END"], "stop_token_ids": [0]}
    body = {**(CHAT if "chat" in path else COMPLETION), **asks}
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answered, _ = await asked(http, miner, path, body, **ending)
        assert answered.json()["choices"][0]["stop_reason"] == reason
        streamed, _ = await asked(http, miner, path, {**body, "stream": True}, **ending)
        assert chunks_of(streamed)[-1]["choices"][0]["stop_reason"] == reason


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_each_chunk_may_have_the_usage_up_to_it(tmp_path: Path, path: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    base = CHAT if "chat" in path else COMPLETION
    body = {**base, "stream": True, "stream_options": options}
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        asking = asyncio.create_task(http.post(path, json=body))
        [assignment] = await miner.assignments()
        await tell(miner, assignment.lease_id, 0, text=" a")
        await finish(miner, assignment.lease_id, 1, **{**ANSWER, **_WITHOUT_TOKENS})
        await miner.expect("acks")
        chunks = chunks_of(await asking)
        *_, ending, last = [chunk["usage"] for chunk in chunks]
        # The chunk with the role comes before anything is made.
        heads, made = (chunks[:1], chunks[1:]) if "chat" in path else ([], chunks)
        assert all(chunk["usage"]["completion_tokens"] == 0 for chunk in heads)
        assert all(chunk["usage"]["completion_tokens"] >= 1 for chunk in made)
        assert ending["total_tokens"] == last["total_tokens"] == 4
        assert chunks[-1]["choices"] == []


_WITHOUT_TOKENS: dict[str, Any] = {"logprobs": (), "token_ids": (), "prompt_details": None}


async def test_reasoning_that_is_not_told_tells_no_tokens(tmp_path: Path) -> None:
    asks = {"return_token_ids": True, "logprobs": True, "top_logprobs": 1}
    body = {**CHAT, **asks, "include_reasoning": False}
    async with (
        served(tmp_path) as (client, miner, _),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answered, _ = await asked(http, miner, "/v1/chat/completions", body, reasoning="hm")
        [choice] = answered.json()["choices"]
        assert (choice["token_ids"], choice["logprobs"]) == (None, None)
        assert "reasoning" not in choice["message"]

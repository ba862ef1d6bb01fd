"""Unmodified clients of OpenAI's API against the real model in vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from scripts.processes import ROOT, Coordinator

from tests.conftest import ADAPTER, CLEAN_ENV
from tests.e2e.node_client import run_node
from tests.model import CITY, MESSAGES, QUESTION, RAW_ANSWER, RAW_PROMPT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

MODEL = "llama3.2"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": MESSAGES,
    "max_tokens": 24,
    "temperature": 0,
}
CHOICE = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_chat_is_the_same_in_one_piece_and_as_it_is_made(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASKED)
    chunks = list(
        client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    )
    text = whole.choices[0].message.content
    assert CITY in (text or "")
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert len(chunks) > 4
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 20


def test_completions_go_on_with_the_prompt(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": RAW_PROMPT, "temperature": 0}
    whole = client.completions.create(**asked, max_tokens=8)
    streamed = client.completions.create(**asked, max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text
    assert whole.choices[0].text.startswith(RAW_ANSWER)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    # A chat template around it would have more of its own.
    assert whole.usage.prompt_tokens < 15
    assert whole.usage.completion_tokens == 8


def test_answers_are_held_to_a_schema(client: openai.OpenAI) -> None:
    for form in (
        {"type": "json_schema", "json_schema": {"name": "city", "schema": CHOICE}},
        {"type": "json_object"},
    ):
        asked: Any = {**ASKED, "response_format": form, "max_tokens": 64}
        done = client.chat.completions.create(**asked)
        if done.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(done.choices[0].message.content or ""), dict)
        if form["type"] == "json_schema":
            assert json.loads(done.choices[0].message.content or "")["city"] in ("Paris", "Rome")


def test_probabilities_are_told(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)
    told = done.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(one.token for one in told.content).startswith(
        done.choices[0].message.content or "?"
    )
    for one in told.content:
        assert one.logprob <= 0
        assert len(one.top_logprobs) == 2
        assert one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob


def test_several_answers_are_several_jobs(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**{**ASKED, "n": 2, "seed": 1})
    assert len(raw.parse().choices) == 2
    assert raw.headers["x-job-id"].count("job-") == 2


def test_responses_run_in_the_background_too(client: openai.OpenAI) -> None:
    asked: Any = {
        "model": MODEL,
        "input": QUESTION,
        "max_output_tokens": 24,
        "temperature": 0,
    }
    text = client.responses.create(**asked).output_text
    assert CITY in text
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == text
    queued = client.responses.create(**asked, background=True)
    assert queued.status in ("queued", "in_progress", "completed")
    streamed = list(client.responses.retrieve(queued.id, stream=True))
    half = streamed[len(streamed) // 2].sequence_number
    rest = list(client.responses.retrieve(queued.id, stream=True, starting_after=half))
    assert [event.sequence_number > half for event in rest]
    assert streamed[-1].type == rest[-1].type == "response.completed"
    assert client.responses.retrieve(queued.id).output_text == text


def test_a_client_that_goes_frees_its_slot_within_a_second(
    client: openai.OpenAI, vllm: Coordinator
) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Write a very long story."}],
        max_tokens=3000,
        stream=True,
        extra_body={"min_p": 0.1},
    )
    for _, chunk in zip(range(3), stream, strict=False):
        assert chunk.choices
    with httpx.Client(base_url=vllm.url) as api:
        assert api.get("/v1/miners/vllm").json()["running_jobs"] >= 1
        stream.close()
        gone = time.monotonic()
        while api.get("/v1/miners/vllm").json().get("running_jobs", 0):
            assert time.monotonic() - gone < 5
        freed_s = time.monotonic() - gone
    assert freed_s < 1


def test_an_adapter_is_a_model_with_receipts_of_its_own(
    client: openai.OpenAI, vllm: Coordinator
) -> None:
    parents = {model.id: model.to_dict().get("parent") for model in client.models.list()}
    assert parents == {MODEL: None, ADAPTER: MODEL}
    asked: dict[str, Any] = {**ASKED, "model": ADAPTER}
    raw = client.chat.completions.with_raw_response.create(**asked)
    text = raw.parse().choices[0].message.content
    assert text
    assert CITY not in text
    with httpx.Client(base_url=vllm.url) as api:
        job = api.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
        assert job["result"] == text
        assert api.get(f"/v1/receipts/{job['receipt_id']}").json()["model"] == ADAPTER


def test_the_client_for_node_works_unmodified(vllm: Coordinator) -> None:
    told = run_node("openai_client.mjs", f"{vllm.url}/v1", MODEL, QUESTION, RAW_PROMPT)
    assert told["models"] == [ADAPTER, MODEL]
    assert CITY in told["chat"]
    assert told["streamed"] == told["chat"]
    assert told["usage"]["completion_tokens"] > 0
    assert told["completed"] == told["completion"]
    assert CITY in told["response"]
    assert told["unknown"] == "model_not_found"


@pytest.mark.parametrize("option", [[], ["--no-stream"]])
def test_an_ordinary_application_works_by_its_configuration_alone(
    vllm: Coordinator, tmp_path: Path, option: list[str]
) -> None:
    example = ROOT / "examples" / "llm" / "extra-openai-models.yaml"
    text = example.read_text().replace("http://127.0.0.1:8080", vllm.url)
    (tmp_path / example.name).write_text(text)
    command = [sys.executable, "-m", "llm", "-m", "aitbc", "--no-log", "-o", "temperature", "0"]
    command += ["-o", "max_tokens", "24", *option, QUESTION]
    env = {**CLEAN_ENV, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "unused"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, env=env)
    assert done.returncode == 0, done.stderr
    assert CITY in done.stdout

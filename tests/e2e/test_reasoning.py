"""Real clients, a real miner that thinks before it answers, and a coordinator that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from scripts.processes import Coordinator

from aitbc_client import Client
from tests.conftest import CLEAN_ENV, Launcher

MODEL = "llama3.2"
PROMPT = "one two three"
THOUGHT = "hm let me think hm let"
THINKING = ("--engine-opt", "reasoning=6")


@pytest.fixture
def thinking(launcher: Launcher) -> Coordinator:
    """A coordinator whose miner thinks six words before each answer."""
    coordinator = launcher.coordinator()
    miner = launcher.miner(coordinator, *THINKING, "--engine-opt", "tokens_per_second=200")
    # Jobs would wait for it; requests for a model that nobody serves are refused.
    miner.wait_for_line("miner echo ready", timeout_s=60)
    return coordinator


def test_openais_client_reads_reasoning_and_sends_it_back(thinking: Coordinator) -> None:
    turns: Any = [{"role": "user", "content": PROMPT}]
    with openai.OpenAI(base_url=f"{thinking.url}/v1", api_key="unused") as client:
        whole = client.chat.completions.create(model=MODEL, messages=turns)
        message: Any = whole.choices[0].message
        assert (message.reasoning_content, message.content) == (THOUGHT, PROMPT)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 9
        assert whole.usage.completion_tokens_details is not None
        assert whole.usage.completion_tokens_details.reasoning_tokens == 6

        chunks: list[Any] = list(
            client.chat.completions.create(
                model=MODEL, messages=turns, stream=True, stream_options={"include_usage": True}
            )
        )
        deltas = [chunk.choices[0].delta.to_dict() for chunk in chunks if chunk.choices]
        thoughts = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
        assert "".join(thoughts) == THOUGHT
        # As it is thought.
        assert len(thoughts) > 1
        assert "".join(delta.get("content", "") for delta in deltas) == PROMPT
        assert chunks[-1].usage == whole.usage

        turns += [message, {"role": "user", "content": "And then?"}]
        then = client.chat.completions.create(model=MODEL, messages=turns)
        assert then.choices[0].message.content == "And then?"


def test_a_response_of_openais_client_has_the_reasoning_as_an_item(thinking: Coordinator) -> None:
    with openai.OpenAI(base_url=f"{thinking.url}/v1", api_key="unused") as client:
        whole = client.responses.create(model=MODEL, input=PROMPT)
        item = whole.output[0]
        assert item.type == "reasoning"
        assert item.content is not None
        assert ([part.text for part in item.content], whole.output_text) == ([THOUGHT], PROMPT)
        assert whole.usage is not None
        assert whole.usage.output_tokens_details.reasoning_tokens == 6

        # The client puts a response together from the events of its stream.
        with client.responses.stream(model=MODEL, input=PROMPT) as stream:
            thought = "".join(
                event.delta for event in stream if event.type == "response.reasoning_text.delta"
            )
            made = stream.get_final_response()
        assert thought == THOUGHT
        assert [one.type for one in made.output] == ["reasoning", "message"]
        assert made.output_text == PROMPT

        following = client.responses.create(
            model=MODEL, input="And then?", previous_response_id=whole.id
        )
        assert following.output_text == "And then?"
        items: Any = [*whole.output, {"role": "user", "content": "And then?"}]
        again = client.responses.create(model=MODEL, input=items)
        assert again.output_text == "And then?"


def test_a_coordinator_that_is_killed_loses_no_thought(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    slowly = ("--engine-opt", "reasoning=60", "--engine-opt", "tokens_per_second=30")
    launcher.miner(coordinator, *slowly)
    with Client(coordinator.grpc) as client, ThreadPoolExecutor(1) as threads:
        submitted = client.submit(PROMPT, model=MODEL)
        stream = client.stream(submitted.job_id)
        events = [next(event for event in stream if event.reasoning)]
        rest = threads.submit(lambda: list(stream))
        coordinator.program.kill()
        launcher.again(coordinator)
        events += rest.result(90)
        job = client.get(submitted.job_id)
    assert job.reasoning is not None
    assert len(job.reasoning.split()) == 60
    assert "".join(event.reasoning or "" for event in events) == job.reasoning
    assert "".join(event.text for event in events) == job.result == PROMPT
    assert "restarted" not in [event.type for event in events]
    assert job.usage is not None
    assert (job.usage.completion_tokens, job.usage.reasoning_tokens) == (63, 60)


def test_what_is_piped_is_the_answer_alone(thinking: Coordinator) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aitbc_client.cli", "submit", "-m", MODEL, "--stream", PROMPT],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
        env=CLEAN_ENV | {"AITBC_COORDINATOR": thinking.grpc},
    )
    assert (done.stdout, done.stderr) == (f"{PROMPT}\n", "")


def test_a_browser_reads_reasoning_and_comes_back(thinking: Coordinator) -> None:
    """As an EventSource does, by the id of each event that it had."""
    with httpx.Client(base_url=thinking.url, timeout=70) as api:
        made = api.post("/v1/jobs", json={"prompt": PROMPT, "model": MODEL}).json()
        job = api.get(f"/v1/jobs/{made['job_id']}", params={"wait": 60}).json()
        assert (job["reasoning"], job["result"]) == (THOUGHT, PROMPT)
        lines = {"accept": "application/x-ndjson"}
        path = f"/v1/jobs/{made['job_id']}/stream"
        whole = _events(api.get(path, headers=lines))
        assert _told(whole) == (THOUGHT, PROMPT)
        for place, event in enumerate(whole):
            rest = api.get(path, headers={**lines, "last-event-id": event["event_id"]})
            told = _told(whole[: place + 1]), _told(_events(rest))
            assert tuple(before + after for before, after in zip(*told, strict=True)) == (
                THOUGHT,
                PROMPT,
            )


def _events(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.split("\n") if line]


def _told(events: list[dict[str, Any]]) -> tuple[str, str]:
    reasoning = "".join(event.get("reasoning", "") for event in events)
    return reasoning, "".join(event.get("text", "") for event in events)

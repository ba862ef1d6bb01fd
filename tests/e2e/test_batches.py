"""OpenAI's batches with its own client, unmodified, and real processes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher

CHAT: Any = "/v1/chat/completions"
FINAL = ("completed", "failed", "expired", "cancelled")


def client_of(url: str, key: str = "none") -> openai.OpenAI:
    """Returns OpenAI's client."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


def wait_for_model(client: openai.OpenAI) -> None:
    """Returns once a miner has registered."""
    while not client.models.list().data:
        time.sleep(0.05)


def chat_line(custom_id: str, text: str = "hello", **body: Any) -> dict[str, Any]:
    """Returns a line that asks for a chat completion."""
    messages = [{"role": "user", "content": text}]
    asked = {"model": "llama3.2", "messages": messages, **body}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked}


def jsonl(*lines: Any) -> bytes:
    """Returns a file of lines; texts are taken as they are."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return "\n".join(texts).encode() + b"\n"


def upload(client: openai.OpenAI, content: bytes) -> str:
    """Uploads a file; returns its id."""
    return client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch").id


def begin(client: openai.OpenAI, content: bytes, window: Any = "24h") -> str:
    """Begins a batch of chat completions; returns its id."""
    batch = client.batches.create(
        input_file_id=upload(client, content), endpoint=CHAT, completion_window=window
    )
    return batch.id


def ended(client: openai.OpenAI, batch_id: str, timeout_s: float = 60) -> Any:
    """Returns a batch once it has ended."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        batch = client.batches.retrieve(batch_id)
        if batch.status in FINAL:
            return batch
        time.sleep(0.05)
    raise AssertionError(f"{batch_id} is {batch.status}")


def completed(client: openai.OpenAI, batch_id: str) -> int:
    """Returns how many lines of a batch are answered."""
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts is not None
    return counts.completed


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    """Returns the lines of a file that a batch wrote."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_a_thousand_lines_are_answered_and_the_bad_ones_fail_alone(
    coordinator: Coordinator,
) -> None:
    client = client_of(coordinator.url)
    wait_for_model(client)
    good = [chat_line(f"line-{number}", f"say {number}") for number in range(1000)]
    bad: list[Any] = [
        chat_line("hot", temperature=99),
        chat_line("nobody", model="no-such-model"),
        chat_line("streamed", stream=True),
        {"custom_id": "get", "method": "GET", "url": CHAT, "body": {}},
        "{not json",
        '{"custom_id": "deep", "body": ' + "[" * 5000 + "]" * 5000 + "}",
    ]
    batch = ended(client, begin(client, jsonl(*good[:500], *bad, "", *good[500:])))
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 1006, "completed": 1000, "failed": 6}
    answers = {line["custom_id"]: line for line in lines_of(client, batch.output_file_id)}
    assert len(answers) == 1000
    for number in range(1000):
        response = answers[f"line-{number}"]["response"]
        assert response["status_code"] == 200
        assert response["request_id"].startswith("job-")
        said = response["body"]["choices"][0]["message"]["content"]
        assert said == f"say {number}"
    errors = lines_of(client, batch.error_file_id)
    by_id = {line["custom_id"]: line for line in errors}
    assert by_id["hot"]["response"]["body"]["error"]["param"] == "temperature"
    assert by_id["nobody"]["response"]["status_code"] == 404
    assert by_id["nobody"]["response"]["body"]["error"]["code"] == "model_not_found"
    assert by_id["streamed"]["response"]["body"]["error"]["param"] == "stream"
    assert by_id["get"]["error"]["message"] == "method must be POST."
    assert sum(line["custom_id"] is None for line in errors) == 2


def test_a_batch_survives_that_the_coordinator_is_killed_again_and_again(
    launcher: Launcher,
) -> None:
    running = launcher.coordinator()
    launcher.miner(running, "--engine-opt", "latency=0.02", slots=8)
    client = client_of(running.url)
    wait_for_model(client)
    lines = [chat_line(f"line-{number}", f"say {number}") for number in range(600)]
    batch_id = begin(client, jsonl(*lines))
    seen: list[int] = []
    for most in (1, 150, 300, 450):
        while (done := completed(client, batch_id)) < most:
            time.sleep(0.01)
        seen.append(done)
        running.program.kill()
        running = launcher.again(running)
        client = client_of(running.url)
    assert seen == sorted(seen)
    batch = ended(client, batch_id)
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 600, "completed": 600, "failed": 0}
    told = [line["custom_id"] for line in lines_of(client, batch.output_file_id)]
    assert sorted(told) == sorted(line["custom_id"] for line in lines)
    # Each line was one job, however often its batch began anew.
    jobs = httpx.get(f"{running.url}/v1/stats").json()["jobs"]
    assert sum(jobs.values()) == jobs["completed"] == 600


def test_a_cancelled_batch_has_what_was_answered_until_then(launcher: Launcher) -> None:
    running = launcher.coordinator()
    launcher.miner(running, "--engine-opt", "latency=0.05", slots=4)
    client = client_of(running.url)
    wait_for_model(client)
    lines = [chat_line(f"line-{number}") for number in range(2000)]
    batch_id = begin(client, jsonl(*lines))
    while completed(client, batch_id) < 20:
        time.sleep(0.01)
    assert client.batches.cancel(batch_id).status in ("cancelling", "cancelled")
    batch = ended(client, batch_id)
    assert batch.status == "cancelled"
    answers = lines_of(client, batch.output_file_id)
    errors = lines_of(client, batch.error_file_id)
    assert len(answers) == batch.request_counts.completed >= 20
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    told = [line["custom_id"] for line in answers + errors]
    assert sorted(told) == sorted(line["custom_id"] for line in lines)
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(begin_ended(client))
    assert httpx.get(f"{running.url}/v1/stats").json()["jobs"].get("pending", 0) == 0


def begin_ended(client: openai.OpenAI) -> str:
    """Returns a batch that has ended."""
    batch_id = begin(client, b"no json\n")
    assert ended(client, batch_id).status == "failed"
    return batch_id


def test_a_batch_whose_time_is_over_has_what_was_answered_until_then(launcher: Launcher) -> None:
    running = launcher.coordinator()
    launcher.miner(running, "--engine-opt", "latency=0.05", slots=4)
    client = client_of(running.url)
    wait_for_model(client)
    lines = [chat_line(f"line-{number}") for number in range(2000)]
    batch = ended(client, begin(client, jsonl(*lines), window="2s"))
    assert batch.status == "expired"
    assert batch.expired_at is not None
    answers = lines_of(client, batch.output_file_id)
    errors = lines_of(client, batch.error_file_id)
    assert len(answers) == batch.request_counts.completed > 0
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    told = [line["custom_id"] for line in answers + errors]
    assert sorted(told) == sorted(line["custom_id"] for line in lines)


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n\r\n", "empty_file", None),
        (b"\x00\xff\xfe not text", "invalid_json_line", 1),
        (b'[1, 2]\n"text"\n', "invalid_json_line", 1),
        (jsonl(chat_line("a"), chat_line("b"), chat_line("a")), "duplicate_custom_id", 3),
        (jsonl(chat_line("a"), {**chat_line("b"), "url": "/v1/completions"}), "url_mismatch", 2),
        (jsonl(*(chat_line(str(number)) for number in range(101))), "too_many_tasks", None),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_fails(
    content: bytes, code: str, line: int | None, bounded: Coordinator
) -> None:
    client = client_of(bounded.url)
    batch = ended(client, begin(client, content))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    fault = batch.errors.data[0]
    assert (fault.code, fault.line) == (code, line)
    assert batch.output_file_id is batch.error_file_id is None
    metrics = httpx.get(f"{bounded.url}/metrics").text
    assert 'aitbc_batches_ended_total{status="failed"}' in metrics
    assert "aitbc_batches 0.0" in metrics


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """A coordinator with small bounds and an echo miner."""
    launcher = Launcher(tmp_path_factory.mktemp("bounded"))
    settings = {
        "AITBC_BATCH_MAX_LINES": "100",
        "AITBC_BATCH_MAX_PER_OWNER": "3",
        "AITBC_FILE_MAX_BYTES": "2000000",
        "AITBC_FILE_MAX_BYTES_PER_OWNER": "5000000",
        "AITBC_MAX_MESSAGE_BYTES": "65536",
    }
    running = launcher.coordinator(env={**CLEAN_ENV, **settings})
    yield running
    launcher.close()


@pytest.mark.parametrize(
    ("url", "body", "said"),
    [
        (
            "/v1/completions",
            {"prompt": ["one two", "three"], "n": 2},
            lambda answer: [choice["text"] for choice in answer["choices"]],
        ),
        (
            "/v1/responses",
            {"input": "one two", "store": False},
            lambda answer: [answer["output"][0]["content"][0]["text"]],
        ),
    ],
)
def test_other_endpoints_answer_as_they_do_live(
    url: Any, body: dict[str, Any], said: Callable[[Any], list[str]], coordinator: Coordinator
) -> None:
    client = client_of(coordinator.url)
    wait_for_model(client)
    asked = {"model": "llama3.2", **body}
    live = httpx.post(f"{coordinator.url}{url}", json=asked).json()
    lines = [{"custom_id": "a", "method": "POST", "url": url, "body": asked}]
    more = {"previous_response_id": "resp_1"} if url == "/v1/responses" else {"n": 0}
    wrong = {**lines[0], "custom_id": "b", "body": {**asked, **more}}
    batch = client.batches.create(
        input_file_id=upload(client, jsonl(*lines, wrong)), endpoint=url, completion_window="24h"
    )
    batch = ended(client, batch.id)
    (answer,) = lines_of(client, batch.output_file_id)
    told = answer["response"]["body"]
    assert said(told) == said(live)
    assert told.keys() == live.keys()
    (error,) = lines_of(client, batch.error_file_id)
    assert error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["param"] == next(iter(more))
    job_id = answer["response"]["request_id"].partition(",")[0]
    kept = httpx.get(f"{coordinator.url}/v1/jobs/{job_id}").status_code
    # One that is not to be stored is gone once it is told.
    assert kept == (404 if "store" in body else 200)


def test_embeddings_are_those_of_a_miner_that_has_them(coordinator: Coordinator) -> None:
    client = client_of(coordinator.url)
    wait_for_model(client)
    url: Any = "/v1/embeddings"
    lines = [
        {
            "custom_id": "a",
            "method": "POST",
            "url": url,
            "body": {"model": "llama3.2", "input": "x"},
        },
        {"custom_id": "b", "method": "POST", "url": url, "body": {"input": "x"}},
    ]
    batch = client.batches.create(
        input_file_id=upload(client, jsonl(*lines)), endpoint=url, completion_window="24h"
    )
    batch = ended(client, batch.id)
    live = httpx.post(f"{coordinator.url}{url}", json=lines[0]["body"])
    answers = lines_of(client, batch.output_file_id) + lines_of(client, batch.error_file_id)
    told = {line["custom_id"]: line["response"] for line in answers}
    assert told["a"]["status_code"] == live.status_code == 200, live.text
    assert told["a"]["body"]["data"] == live.json()["data"]
    assert told["b"]["body"]["error"]["param"] == "model"


def _wrong(url: str) -> list[dict[str, Any]]:
    """Returns requests that the coordinator refuses as jobs."""
    if url == CHAT:
        image = {"type": "image_url", "image_url": {"url": "ftp://x"}}
        shown = [{"role": "user", "content": ["what is this?", image]}]
        return [{"messages": shown}, {"messages": [{"role": "a king", "content": "x"}]}]
    if url == "/v1/completions":
        return [{"prompt": ["a", "b\0"]}, {"prompt": "a", "min_tokens": 17}]
    if url == "/v1/responses":
        return [
            {"instructions": "a\0", "input": "b"},
            {"input": [{"role": "user", "content": "\0"}]},
        ]
    return [{"input": [*["x"] * 65, "b\0"]}]


@pytest.mark.parametrize("url", [CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings"])
def test_a_line_that_is_refused_is_told_what_a_live_call_is(
    coordinator: Coordinator, url: Any
) -> None:
    client = client_of(coordinator.url)
    wait_for_model(client)
    wrong = _wrong(url)
    asked = [*({"model": "llama3.2", **body} for body in wrong), {"model": "nobody", **wrong[0]}]
    live = [httpx.post(f"{coordinator.url}{url}", json=body) for body in asked]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": url, "body": body}
        for number, body in enumerate(asked)
    ]
    batch = client.batches.create(
        input_file_id=upload(client, jsonl(*lines)), endpoint=url, completion_window="24h"
    )
    batch = ended(client, batch.id)
    told = {line["custom_id"]: line["response"] for line in lines_of(client, batch.error_file_id)}
    for number, answer in enumerate(live):
        assert answer.status_code in (400, 404)
        assert told[str(number)]["status_code"] == answer.status_code
        assert told[str(number)]["body"] == answer.json()
    assert "llama3.2" in live[-1].json()["error"]["message"]

"""Embeddings, rankings and tokens through all processes, with clients that nobody changed.

The miner is an echo: its tokens are bytes, and the same text has the same vector.
"""

from __future__ import annotations

import json
import math
import subprocess
from typing import Any

import httpx
import openai
import pytest
from scripts.processes import ROOT, Coordinator

from tests.conftest import CLEAN_ENV, Launcher

MODEL = "llama3.2"
# A batch, and more than one job has.
TEXTS = [f"text {number}" for number in range(70)]


@pytest.fixture(autouse=True)
def ready(api: httpx.Client) -> None:
    """Waits for the miner: a model without one does not exist."""
    job_id = api.post("/v1/jobs", json={"model": MODEL, "prompt": "a"}).json()["job_id"]
    assert api.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json()["status"] == "completed"


def asked(api: httpx.Client, path: str, **body: Any) -> Any:
    response = api.post(path, json={"model": MODEL, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_openais_client_makes_embeddings_with_a_receipt_each(coordinator: Coordinator) -> None:
    with openai.OpenAI(base_url=f"{coordinator.url}/v1", api_key="unused") as client:
        raw = client.embeddings.with_raw_response.create(model=MODEL, input=TEXTS)
        made = raw.parse()
        plain = client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="float")
    assert [one.index for one in made.data] == list(range(len(TEXTS)))
    assert made.data[0].embedding == plain.data[0].embedding
    assert math.hypot(*made.data[69].embedding) > 0.999
    assert made.usage.prompt_tokens == sum(map(len, TEXTS))
    job_ids = raw.headers["x-job-id"].split(",")
    assert len(job_ids) == 2
    for job_id in job_ids:
        check_receipt(coordinator, job_id)


def check_receipt(coordinator: Coordinator, job_id: str) -> None:
    """Has the client verify a job's receipt: the hashes of all that was asked and answered."""
    command = [f"{ROOT}/.venv/bin/aitbc", "--coordinator", coordinator.grpc]
    done = subprocess.run(
        [*command, "verify", "--signature-only", job_id],
        capture_output=True,
        text=True,
        check=False,
        env=CLEAN_ENV,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split()[:2] for line in done.stdout.splitlines()]
    for hashed in ("request", "answer"):
        assert ["\u2713", f"{hashed}:"] in told, done.stdout


def test_documents_are_ranked(api: httpx.Client) -> None:
    told = asked(api, "/v1/rerank", query="same", documents=["other", "same", "else"], top_n=1)
    (best,) = told["results"]
    assert (best["index"], best["document"]) == (1, {"text": "same"})
    scores = asked(api, "/score", text_1="same", text_2=["other", "same"])["data"]
    assert scores[1]["score"] > 0.999 > scores[0]["score"]


def test_tokens_of_a_text_are_its_text(api: httpx.Client) -> None:
    told = asked(api, "/tokenize", prompt="hé", return_token_strs=True)
    assert told["tokens"] == [104, 195, 169]
    assert told["token_strs"] == ["h", "<0xC3>", "<0xA9>"]
    assert asked(api, "/detokenize", tokens=told["tokens"]) == {"prompt": "hé"}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert asked(api, "/tokenize", messages=turns)["count"] == 3


def test_tokens_cost_nothing_and_vectors_cost_what_was_read(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    miner = launcher.miner(coordinator, miner_id="echo", models=[MODEL])
    miner.wait_for_line("miner echo ready", timeout_s=60)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        asked(api, "/tokenize", prompt="four")
        assert usage(api) == (0, 0)
        asked(api, "/v1/embeddings", input=["four", "four"])
        assert usage(api) == (8, 0)


def usage(api: httpx.Client) -> tuple[int, int]:
    tokens = api.get("/v1/stats").json()["tokens"]
    return tokens["prompt"], tokens["completion"]


def test_a_job_to_embed_is_a_job_like_any_other(api: httpx.Client) -> None:
    body = {"model": MODEL, "task": "embed", "inputs": [{"text": "a"}], "dimensions": 2}
    job_id = api.post("/v1/jobs", json=body).json()["job_id"]
    job = api.get(f"/v1/jobs/{job_id}", params={"wait": 30}).json()
    assert job["status"] == "completed"
    (output,) = job["outputs"]
    assert len(output["vector"]) == 2
    stream = api.get(f"/v1/jobs/{job_id}/stream").text
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data")]
    assert json.loads(data[-1])["job"]["outputs"] == job["outputs"]

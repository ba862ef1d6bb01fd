"""The three clients that the API's documentation shows run unmodified, and without a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV
from tests.e2e.jobs import final, submit
from tests.model import ANSWER, QUESTION

CLIENTS = Path(__file__).parent / "clients"
COMMANDS = {
    "sync": [sys.executable, str(CLIENTS / "sync_client.py")],
    "async": [sys.executable, str(CLIENTS / "async_client.py")],
    "fetch": ["node", str(CLIENTS / "fetch_client.mjs")],
}
each_client = pytest.mark.parametrize("client", COMMANDS)


def answer(client: str, *arguments: str) -> str:
    """Returns what the client prints."""
    done = subprocess.run(
        [*COMMANDS[client], *arguments], capture_output=True, text=True, env=CLEAN_ENV, timeout=170
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@each_client
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_client_prints_its_result(client: str, prefix: str, coordinator: Coordinator) -> None:
    assert answer(client, coordinator.url + prefix) == "Hello, how are you?"


@pytest.mark.vllm
@pytest.mark.timeout(600)
@each_client
def test_client_prints_what_the_real_model_answers(client: str, vllm: Coordinator) -> None:
    assert answer(client, vllm.url, QUESTION)


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_real_model_is_right_when_it_is_greedy(vllm: Coordinator) -> None:
    with httpx.Client(base_url=vllm.url, timeout=70) as api:
        params = {"max_tokens": 32, "temperature": 0}
        job = final(api, submit(api, prompt=QUESTION, params=params))
    assert job["status"] == "completed"
    assert job["result"] == ANSWER
    assert job["usage"]["completion_tokens"] <= 32

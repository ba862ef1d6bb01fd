"""The three clients that the API's documentation shows run unmodified, and without a key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripts.processes import VLLM_BIN, Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import final, submit

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


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a coordinator whose one miner runs the real model in vLLM."""
    if not VLLM_BIN.exists() and "CI" not in os.environ:
        pytest.skip("no .venv-vllm: run `make vllm`")
    launcher = Launcher(tmp_path_factory.mktemp("vllm"))
    coordinator = launcher.coordinator()
    # 4 slots, because the memory for more would take longer to set up than the test.
    launcher.miner(
        coordinator, miner_id="vllm", engine="vllm", models=["llama3.2=smollm2"], slots=4
    )
    yield coordinator.url
    launcher.close()


@pytest.mark.vllm
@pytest.mark.timeout(600)
@each_client
def test_client_prints_what_the_real_model_answers(client: str, vllm_url: str) -> None:
    assert answer(client, vllm_url, "What is the capital of France?")


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_real_model_is_right_when_it_is_greedy(vllm_url: str) -> None:
    with httpx.Client(base_url=vllm_url, timeout=70) as api:
        params = {"max_tokens": 32, "temperature": 0}
        job = final(api, submit(api, prompt="What is the capital of France?", params=params))
    assert job["status"] == "completed"
    assert "Paris" in job["result"]
    assert job["usage"]["completion_tokens"] <= 32

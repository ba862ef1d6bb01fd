"""What each command loads: no more than it needs, so that scripts and restarts need not wait."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.processes import Coordinator

from tests.e2e.keys import create_key

# Runs a command of a program in a process of its own and prints the packages that it loaded.
_COMMAND = """
import importlib, json, sys
module, *sys.argv = sys.argv[1:]
try:
    importlib.import_module(module).main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
# Starts a coordinator and prints what has been loaded when it serves.
_SERVE = """
import asyncio, json, sys
from pathlib import Path
from aitbc_server.serving import Coordinator, Settings

async def serve():
    data, http, grpc = Path(sys.argv[1]), "127.0.0.1:0", "127.0.0.1:0"
    coordinator = Coordinator(Settings(http=http, grpc=grpc, data=data))
    await coordinator.start()
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    await coordinator.stop()
    print(json.dumps(loaded))

asyncio.run(serve())
"""
# Not pydantic: typer checks values with it.
_SERVER = {"asyncio", "cryptography", "google", "grpc", "structlog", "uvicorn"}
_ON_DEMAND = {"httpx", "httpcore", "jinja2", "opentelemetry", "sqlite_utils", "numpy"}


def _loaded(*arguments: str | Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory of data that is up to date."""
    directory = tmp_path_factory.mktemp("data")
    create_key(directory, "admin")
    return directory


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["serve", "--help"]], ids=" ".join)
def test_asking_for_help_loads_no_server(words: list[str]) -> None:
    loaded = _loaded(_COMMAND, "aitbc_server.cli", "aitbc-coordinator", *words)
    assert loaded & (_SERVER | _ON_DEMAND) == set()


@pytest.mark.parametrize("words", [["list"], ["create", "--role", "client"]], ids=" ".join)
def test_keys_load_no_server(words: list[str], data: Path) -> None:
    loaded = _loaded(
        _COMMAND, "aitbc_server.cli", "aitbc-coordinator", "keys", *words, "--data", data
    )
    assert loaded & (_SERVER | _ON_DEMAND) == set()


def test_the_help_of_the_miner_loads_no_miner() -> None:
    loaded = _loaded(_COMMAND, "aitbc_miner.cli", "aitbc-miner", "run", "--help")
    assert loaded & {*_SERVER, *_ON_DEMAND, "psutil", "pynvml", "uvloop"} == set()


@pytest.mark.parametrize("words", [["--help"], ["submit", "--help"]], ids=" ".join)
def test_the_help_of_the_client_loads_no_client(words: list[str]) -> None:
    loaded = _loaded(_COMMAND, "aitbc_client.cli", "aitbc", *words)
    assert loaded & {*_SERVER, *_ON_DEMAND, "tenacity"} == set()


def test_a_job_is_submitted_without_loading_what_draws(coordinator: Coordinator) -> None:
    words = ["--coordinator", coordinator.grpc, "submit", "-m", "llama3.2", "--json", "hello"]
    loaded = _loaded(_COMMAND, "aitbc_client.cli", "aitbc", *words)
    assert loaded & {*_ON_DEMAND, "cryptography", "rich", "structlog"} == set()


def test_a_coordinator_serves_before_it_loads_what_may_never_be_asked_for(data: Path) -> None:
    loaded = _loaded(_SERVE, data)
    assert loaded >= _SERVER
    assert loaded & _ON_DEMAND == set()

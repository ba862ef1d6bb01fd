"""Clients of Connect and gRPC-Web, as people install them, in Node; and what curl does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.processes import BIN, ROOT, Coordinator

from tests.conftest import Launcher
from tests.e2e.node_client import run_node
from tests.e2e.test_gateway import start_gateway

TEXT = "one two ä three"
# What the scenario sees, whatever it speaks.
SEEN: dict[str, Any] = {
    "requestId": "from-a-client",
    "submitted": True,
    "streamed": TEXT,
    "final": True,
    "result": TEXT,
    "time": True,
    "listed": True,
    "stats": True,
    "aborted": "Canceled",
    "cancelled": True,
    "ended": True,
    "unknown": ["NotFound", "JOB_NOT_FOUND"],
    "wrong": "params.temperature",
    "ofStream": ["NotFound", "JOB_NOT_FOUND"],
    "deadline": "DeadlineExceeded",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Coordinator, Launcher]]:
    """A coordinator with a fast miner and a slow one."""
    launcher = Launcher(tmp_path_factory.mktemp("served"))
    coordinator = launcher.coordinator()
    launcher.miner(coordinator, miner_id="fast", models=["fast"])
    slow = ("--engine-opt", "tokens_per_second=5")
    launcher.miner(coordinator, *slow, miner_id="slow", models=["slow"])
    yield coordinator, launcher
    launcher.close()


def described(directory: Path) -> Path:
    """Returns a file with the descriptors of the API."""
    path = directory / "descriptors.binpb"
    subprocess.run([BIN / "buf", "build", "-o", path], cwd=ROOT, check=True)
    return path


@pytest.mark.parametrize("at", ["coordinator", "gateway"])
def test_clients_in_node_do_all_that_there_is_to_do(
    served: tuple[Coordinator, Launcher], tmp_path: Path, at: str
) -> None:
    coordinator, launcher = served
    url = coordinator.url
    if at == "gateway":
        url = f"http://{start_gateway(coordinator, launcher, tmp_path / 'gateway.log')}/api"
    seen = run_node("connect_client.mjs", url, str(described(tmp_path)), "fast", "slow")
    assert len(seen) == 6
    for name, one in seen.items():
        work = one.pop("work")
        assert work.startswith("Unimplemented Work takes a stream of requests"), (name, work)
        assert one == SEEN, name


@pytest.mark.parametrize("protocol", ["connect", "grpcweb"])
def test_the_client_in_go_calls_and_streams(
    served: tuple[Coordinator, Launcher], protocol: str
) -> None:
    """`buf curl` is connect-go."""
    coordinator, _ = served

    def called(method: str, request: str) -> subprocess.CompletedProcess[str]:
        url = f"{coordinator.url}/aitbc.v1.JobService/{method}"
        command = [str(BIN / "buf"), "curl", "--schema", "protos", "--protocol", protocol]
        return subprocess.run(
            [*command, "-d", request, url], cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    made = called("SubmitJob", '{"prompt": "one", "model": "fast"}')
    assert json.loads(made.stdout)["status"] == "JOB_STATUS_PENDING"
    ran = called("RunJob", '{"prompt": "one two", "model": "fast"}')
    assert '"status": "JOB_STATUS_COMPLETED"' in ran.stdout
    failed = called("GetJob", '{"jobId": "nothing"}')
    assert failed.returncode
    error = json.loads(failed.stderr)
    assert (error["code"], error["details"][0]["type"]) == ("not_found", "google.rpc.ErrorInfo")

"""The REST API alone, in front of a coordinator, serves the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripts.processes import BIN, Coordinator, Program

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_error, final, submit


@pytest.fixture(scope="module")
def gateway(
    coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """The REST API of a gateway to the shared coordinator."""
    directory = tmp_path_factory.mktemp("gateway")
    launcher = Launcher(directory)
    url = f"http://{start_gateway(coordinator, launcher, directory / 'gateway.log')}"
    with httpx.Client(base_url=url, timeout=70) as client:
        yield client
    launcher.close()


def start_gateway(coordinator: Coordinator, launcher: Launcher, log: Path) -> str:
    """Returns where a new gateway listens."""
    argv = [str(BIN / "aitbc-coordinator"), "gateway"]
    argv += ["--target", coordinator.grpc, "--http", "127.0.0.1:0"]
    program = launcher.own(Program(argv, log=log, env=CLEAN_ENV))
    ready = program.wait_for_line(re.compile(r"ready http=(\S+)"), timeout_s=30)
    return str(ready[1])


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_job_goes_from_submit_to_result(gateway: httpx.Client, prefix: str) -> None:
    submitted = gateway.post(f"{prefix}/v1/jobs", json={"prompt": "over", "model": "llama3.2"})
    assert submitted.status_code == 201
    job_id = submitted.json()["job_id"]
    job = gateway.get(f"{prefix}/v1/jobs/{job_id}", params={"wait": 60}).json()
    assert job["status"] == "completed"
    assert job["result"] == "over"


def test_answers_are_those_of_the_coordinator(gateway: httpx.Client, api: httpx.Client) -> None:
    job_id = submit(api)
    final(api, job_id)
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs?status=completed&limit=5", "/health"):
        assert gateway.get(path).json() == api.get(path).json()


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs/job-none", "/v1/jobs?limit=0", "/v1/jobs?colour=red", "/v1/nothing"],
)
def test_errors_are_those_of_the_coordinator(
    gateway: httpx.Client, api: httpx.Client, path: str
) -> None:
    theirs, ours = gateway.get(path), api.get(path)
    assert theirs.status_code == ours.status_code
    assert theirs.json() == ours.json()


def test_nothing_available_is_204(gateway: httpx.Client, model: str) -> None:
    body = {"miner_id": model, "capabilities": [model]}
    assert gateway.post("/v1/miners/register", json=body).status_code == 201
    response = gateway.get("/v1/jobs/available", params={"miner_id": model})
    assert response.status_code == 204


def test_health_of_the_gateway_is_its_own(launcher: Launcher, tmp_path: Path) -> None:
    lost = launcher.coordinator()
    url = f"http://{start_gateway(lost, launcher, tmp_path / 'gateway.log')}"
    with httpx.Client(base_url=url, timeout=70) as client:
        assert client.get("/health/ready").json()["checks"] == {"coordinator": "ok"}
        lost.program.kill()
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"coordinator": "the coordinator cannot be reached"}
        assert client.get("/health/live").status_code == 200


def test_missing_coordinator_is_503(launcher: Launcher, tmp_path: Path) -> None:
    lost = launcher.coordinator()
    url = f"http://{start_gateway(lost, launcher, tmp_path / 'gateway.log')}"
    lost.program.kill()
    with httpx.Client(base_url=url, timeout=70) as client:
        response = client.get("/v1/jobs/job-none")
    assert_error(response, 503, "UNAVAILABLE")

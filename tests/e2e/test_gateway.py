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

APP = "https://app.example"
MOST_BYTES = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(
    coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """The REST API of a gateway to the shared coordinator."""
    directory = tmp_path_factory.mktemp("gateway")
    launcher = Launcher(directory)
    settings = {"AITBC_CORS_ORIGINS": APP, "AITBC_MAX_MESSAGE_BYTES": str(MOST_BYTES)}
    url = f"http://{start_gateway(coordinator, launcher, directory / 'gateway.log', **settings)}"
    with httpx.Client(base_url=url, timeout=70) as client:
        yield client
    launcher.close()


def start_gateway(coordinator: Coordinator, launcher: Launcher, log: Path, **settings: str) -> str:
    """Returns where a new gateway listens."""
    argv = [str(BIN / "aitbc-coordinator"), "gateway"]
    argv += ["--target", coordinator.grpc, "--http", "127.0.0.1:0"]
    program = launcher.own(Program(argv, log=log, env={**CLEAN_ENV, **settings}))
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


def test_pages_of_other_origins_may_call_it(gateway: httpx.Client) -> None:
    asked = {"origin": APP, "access-control-request-method": "POST"}
    preflight = gateway.options("/v1/jobs", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == APP
    allowed = gateway.get("/v1/stats", headers={"origin": APP})
    assert allowed.headers["access-control-allow-origin"] == APP
    other = gateway.get("/v1/stats", headers={"origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_settings_of_http_count_for_the_gateway(gateway: httpx.Client) -> None:
    body = {"prompt": "x" * MOST_BYTES, "model": "llama3.2"}
    assert_error(gateway.post("/v1/jobs", json=body), 413, "PAYLOAD_TOO_LARGE")


def test_the_document_has_what_the_gateway_serves(gateway: httpx.Client, api: httpx.Client) -> None:
    ours, theirs = (client.get("/openapi.json").json()["paths"] for client in (gateway, api))
    assert set(theirs) - set(ours) == {
        "/metrics",
        "/checkpoint",
        "/.well-known/aitbc-keys.json",
        "/ledger/signatures/{number}",
        *(path for path in theirs if path.startswith("/tile/")),
    }
    assert set(ours) <= set(theirs)


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

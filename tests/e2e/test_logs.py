"""Logs name requests and jobs, and never repeat what was asked, answered or kept secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import jobs_pb2
from tests.conftest import Launcher
from tests.e2e.keys import create_key
from tests.e2e.test_gateway import start_gateway

# What the miner answers with is the prompt. Each is told apart by where it was put.
PROMPT = "PLANTED-PROMPT-7f3a"
MESSAGE = "PLANTED-MESSAGE-7f3a"
STOP = "PLANTED-STOP-7f3a"
RESULT = "PLANTED-RESULT-7f3a"
FAILURE = "PLANTED-FAILURE-7f3a"
BAD_BODY = "PLANTED-BODY-7f3a"
BAD_KEY = "aitbc_PLANTEDKEY7f3a_PLANTEDKEY7f3a"
PLANTED = (PROMPT, MESSAGE, STOP, RESULT, FAILURE, BAD_BODY, "PLANTEDKEY7f3a")
REQUEST_ID = "request-of-this-test"


@pytest.fixture
def everything(launcher: Launcher, tmp_path: Path) -> tuple[Coordinator, str, dict[str, str]]:
    """A coordinator, a gateway and a miner that log all they can; and a key of each role."""
    coordinator = launcher.coordinator("--auth", "required", "--log-level", "debug")
    keys = {role: create_key(coordinator.data, role) for role in ("client", "miner", "admin")}
    launcher.miner(coordinator, "--api-key", keys["miner"])
    gateway = start_gateway(coordinator, launcher, tmp_path / "gateway.log")
    return coordinator, f"http://{gateway}", keys


def test_no_secret_is_in_any_log(
    everything: tuple[Coordinator, str, dict[str, str]], tmp_path: Path
) -> None:
    coordinator, gateway, keys = everything
    job_ids = []
    for url in (coordinator.url, gateway):
        headers = {"X-Api-Key": keys["client"], "X-Request-Id": REQUEST_ID}
        with httpx.Client(base_url=url, headers=headers, timeout=70) as http:
            job_ids += [_run_a_job(http), _fail_a_job(http, keys["miner"])]
            _be_refused(http)
            secret = _make_a_webhook(http)
    _be_refused_by_grpc(coordinator)
    logs = {path: path.read_text(errors="replace") for path in Path(tmp_path).rglob("*.log")}
    assert len(logs) == 3, logs.keys()
    for path, text in logs.items():
        for planted in (*PLANTED, *keys.values(), *(key[-20:] for key in keys.values()), secret):
            assert planted not in text, f"{planted} is in {path.name}"
    log = logs[coordinator.program.log]
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    events = {(line["event"], line.get("job_id")) for line in lines}
    for job_id in job_ids:
        assert ("job.submitted", job_id) in events
    submitted = [line for line in lines if line["event"] == "job.submitted"]
    assert {line["request_id"] for line in submitted} == {REQUEST_ID}
    assert ("job.completed", job_ids[0]) in events
    assert ("job.ended", job_ids[1]) in events


def _run_a_job(http: httpx.Client) -> str:
    messages = [{"role": "user", "content": MESSAGE}]
    params = {"stop": [STOP]}
    http.post("/v1/jobs:batch", json={"jobs": []})
    http.post("/v1/jobs", json={"messages": messages, "model": "none", "params": params})
    body = {"prompt": PROMPT, "model": "llama3.2", "params": params}
    job_id: str = http.post("/v1/jobs", json=body).json()["job_id"]
    assert http.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json()["status"] == "completed"
    return job_id


def _fail_a_job(http: httpx.Client, miner_key: str) -> str:
    """Has a miner that polls fail a job, and another one deliver a result too late."""
    body = {"prompt": PROMPT, "model": "polled", "max_attempts": 1}
    job_id: str = http.post("/v1/jobs", json=body).json()["job_id"]
    headers = {"X-Api-Key": miner_key}
    miner = {"miner_id": "poller", "capabilities": ["polled"]}
    http.post("/v1/miners/register", json=miner, headers=headers).raise_for_status()
    claim = http.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": "poller"}, headers=headers)
    assert claim.status_code == 200, claim.text
    failure = {"miner_id": "poller", "error": FAILURE}
    failed = http.post(f"/v1/jobs/{job_id}/fail", json=failure, headers=headers)
    assert failed.status_code == 200, failed.text
    late = {"miner_id": "poller", "result": RESULT}
    lost = http.post(f"/v1/jobs/{job_id}/complete", json=late, headers=headers)
    assert lost.status_code == 409
    return job_id


def _be_refused(http: httpx.Client) -> None:
    bad = f'{{"prompt": "{BAD_BODY}", "model": "m", "{BAD_BODY}": 1'
    json_type = {"Content-Type": "application/json"}
    assert http.post("/v1/jobs", content=bad, headers=json_type).status_code == 400
    assert http.post("/v1/jobs", content=bad + "}", headers=json_type).status_code == 400
    wrong = {"prompt": "x", "model": "m", "params": {"max_tokens": BAD_BODY}}
    assert http.post("/v1/jobs", json=wrong).status_code == 400
    assert http.get("/v1/jobs", headers={"X-Api-Key": BAD_KEY}).status_code == 401
    assert http.get(f"/v1/jobs/{BAD_BODY}").status_code == 404


def _be_refused_by_grpc(coordinator: Coordinator) -> None:
    with grpc.insecure_channel(coordinator.grpc) as channel:
        for content, key in ((PROMPT, BAD_KEY), (PROMPT, "")):
            submit: Any = channel.unary_unary("/aitbc.v1.JobService/SubmitJob")
            request = jobs_pb2.SubmitJobRequest(prompt=content, model="m").SerializeToString()
            with pytest.raises(grpc.RpcError):
                submit(request, metadata=(("x-api-key", key),), timeout=30)
            with pytest.raises(grpc.RpcError):
                submit(BAD_BODY.encode(), metadata=(("x-api-key", key),), timeout=30)


def _make_a_webhook(http: httpx.Client) -> str:
    body = {"url": "https://example.com/", "events": ["job.failed"]}
    made = http.post("/v1/webhooks", json=body)
    if made.status_code == 400:  # no name service here, or none that knows the host
        return "no webhook"
    secret: str = made.json()["secret"]
    return secret

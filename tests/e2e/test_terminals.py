"""Terminals obey nothing that a model, a miner or a client says; pipes get it to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripts.processes import BIN, Coordinator

from tests.conftest import CLEAN_ENV
from tests.e2e.jobs import submit
from tests.terminal import HOSTILE, SHOWN, assert_harmless, on_terminal

_LOG = "import {package}.logs as logs, structlog, sys\n{setup}\n"
_LOG += "structlog.get_logger().warning('upstream.said', message=sys.argv[1])"
_SETUPS = {
    "aitbc_server": "logs.configure('info')",
    "aitbc_miner": "logs.configure_logging()",
}


def command(coordinator: Coordinator, *words: str) -> list[str]:
    """Returns the command `aitbc` with these words."""
    return [str(BIN / "aitbc"), "--coordinator", coordinator.grpc, *words]


def answered(api: httpx.Client, model: str) -> str:
    """Returns the id of a job that a miner answered with what terminals obey."""
    miner = {"miner_id": f"poller-{model}", "capabilities": [model]}
    assert api.post("/v1/miners/register", json=miner).is_success
    job_id = submit(api, model)
    body = {"miner_id": miner["miner_id"]}
    assert api.post(f"/v1/jobs/{job_id}/claim", json=body).is_success
    done = api.post(f"/v1/jobs/{job_id}/complete", json=body | {"result": HOSTILE})
    assert done.is_success, done.text
    return job_id


@pytest.mark.parametrize("words", [["wait"], ["stream"], ["wait", "--json"], ["stream", "--json"]])
def test_an_answer_is_shown_and_not_obeyed(
    coordinator: Coordinator, api: httpx.Client, model: str, words: list[str]
) -> None:
    job_id = answered(api, model)
    written = on_terminal(command(coordinator, *words, job_id), CLEAN_ENV, 60)
    assert_harmless(written)
    if "--json" in words:
        # JSON still, and the same.
        assert HOSTILE in [_text_of(json.loads(line)) for line in written.splitlines()]
    else:
        assert SHOWN in written


@pytest.mark.parametrize("words", [["wait"], ["stream"]])
def test_a_pipe_gets_the_answer_to_the_byte(
    coordinator: Coordinator, api: httpx.Client, model: str, words: list[str]
) -> None:
    done = subprocess.run(
        command(coordinator, *words, answered(api, model)),
        env=CLEAN_ENV,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{HOSTILE}\n".encode()


def test_an_error_of_a_miner_is_kept_and_shown_without_harm(
    coordinator: Coordinator, api: httpx.Client, model: str
) -> None:
    miner = {"miner_id": f"poller-{model}", "capabilities": [model]}
    assert api.post("/v1/miners/register", json=miner).is_success
    job_id = submit(api, model, max_attempts=1)
    body: dict[str, Any] = {"miner_id": miner["miner_id"]}
    assert api.post(f"/v1/jobs/{job_id}/claim", json=body).is_success
    failed = api.post(f"/v1/jobs/{job_id}/fail", json=body | {"error": HOSTILE, "retryable": False})
    assert failed.is_success, failed.text
    assert SHOWN in api.get(f"/v1/jobs/{job_id}").json()["error"]["message"]
    for words in (["wait", job_id], ["list"], ["list", "--json"]):
        assert_harmless(on_terminal(command(coordinator, *words), CLEAN_ENV, 60))


def test_a_verified_job_is_shown_and_not_obeyed(
    coordinator: Coordinator, api: httpx.Client, model: str, tmp_path: Path
) -> None:
    job_id = answered(api, model)
    job = api.get(f"/v1/jobs/{job_id}").json()
    receipt = api.get(f"/v1/receipts/{job['receipt_id']}").json()
    written = on_terminal(command(coordinator, "verify", "--signature-only", job_id), CLEAN_ENV, 60)
    assert " result: it holds" in written
    assert_harmless(written)
    # Names of what is not covered, and what stands in the place of a receipt's parts.
    held, file = tmp_path / "job.json", tmp_path / "receipt.json"
    held.write_text(json.dumps(job | {HOSTILE: 1}))
    for change in ({}, {"job_id": HOSTILE}, {"version": HOSTILE}, {"coordinator": HOSTILE}):
        file.write_text(json.dumps(receipt | change))
        words = ("verify", str(file), "--job", str(held), "--signature-only")
        written = on_terminal(command(coordinator, *words), CLEAN_ENV, 60)
        assert " form: " in written
        assert_harmless(written)
        # A job that is not the receipt's is not gone through.
        assert (SHOWN in written) == (change.keys() != {"job_id"})
    listing = command(coordinator, "list", "--json", "--model", model)
    written = on_terminal(listing, CLEAN_ENV, 60)
    assert_harmless(written)
    assert HOSTILE in [_text_of(json.loads(line)) for line in written.splitlines()]


def test_nothing_of_a_gpu_is_taken_that_terminals_obey(api: httpx.Client, model: str) -> None:
    for field in ("name", "memory", "driver"):
        refused = api.post(
            "/v1/miners/register",
            json={
                "miner_id": f"poller-{model}",
                "capabilities": [model],
                "gpu_info": {field: "x\x1b]0;"},
            },
        )
        assert refused.status_code == 400
        assert f"gpu_info.{field}" in refused.text
        assert "control characters" in refused.text


@pytest.mark.parametrize("package", _SETUPS)
def test_logs_show_what_others_say_and_do_it_not(package: str) -> None:
    program = _LOG.format(package=package, setup=_SETUPS[package])
    argv = [sys.executable, "-c", program, HOSTILE]
    written = on_terminal(argv, CLEAN_ENV, 60)
    assert "upstream.said" in written
    assert_harmless(written)
    assert "u001b]0;pwned" in written


def _text_of(line: dict[str, Any]) -> str:
    return str(line.get("result") or line.get("text") or "")

"""What a polling miner says of its work: checked against the call, kept, shown with the receipt."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_error, get, submit
from tests.e2e.keys import create_key
from tests.e2e.test_gateway import start_gateway
from tests.e2e.test_polling_miner import register

MINER = Path(__file__).parent / "clients" / "polling_miner.py"
RESULT = "Paris är schön.\n"
HASH = hashlib.sha256(RESULT.encode()).hexdigest()


class Claimed:
    """A job that a miner has claimed."""

    def __init__(self, api: httpx.Client, model: str) -> None:
        self.api = api
        self.miner_id = register(api, f"poller-of-{model}", model)
        self.job_id = submit(api, model)
        claim = api.post(f"/v1/jobs/{self.job_id}/claim", json={"miner_id": self.miner_id})
        self.lease_id = claim.json()["lease_id"]
        # As the documentation's miner sends it.
        self.receipt = {
            "job_id": self.job_id,
            "miner_id": self.miner_id,
            "result_hash": HASH,
            "completed_at": "2026-01-24T15:00:05.123456",
            "signature": "c2lnbmVkIGluIGEgc2NoZW1lIG9mIG15IG93bg==",
        }

    def complete(self, **receipt: Any) -> httpx.Response:
        """Delivers the result with the statement, changed so."""
        body = {"result": RESULT, "receipt": {**self.receipt, **receipt}}
        return self.api.post(f"/v1/jobs/{self.job_id}/complete", json=body)


@pytest.fixture
def claimed(api: httpx.Client, model: str) -> Claimed:
    """A claimed job."""
    return Claimed(api, model)


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("through", ["coordinator", "gateway"])
def test_the_miner_of_the_documentation_works(
    coordinator: Coordinator,
    launcher: Launcher,
    tmp_path: Path,
    api: httpx.Client,
    model: str,
    prefix: str,
    through: str,
) -> None:
    url = coordinator.url
    if through == "gateway":
        url = f"http://{start_gateway(coordinator, launcher, tmp_path / 'gateway.log')}"
    miner_id = f"documented-{model}"
    job_id = submit(api, model, prompt="hello")

    argv = [sys.executable, str(MINER), url + prefix, miner_id, model]
    done = subprocess.run(argv, capture_output=True, text=True, env=CLEAN_ENV, timeout=60)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert get(api, job_id)["result"] == "You said: hello"
    receipt = api.get(f"/v1/receipts/{told['receipt_id']}").json()
    assert receipt["miner_statement"] == told["receipt"]
    assert receipt["is_miner_statement_verified"] is False
    assert "miner_signature" not in receipt


@pytest.mark.parametrize(
    "receipt",
    [
        {},
        {"result_hash": HASH.upper()},
        {"result_hash": f"sha256:{HASH}"},
        {"result_hash": f"0x{HASH}"},
        {"completed_at": "2026-01-24T15:00:05"},
        {"completed_at": "2026-01-24T15:00:05Z"},
        {"completed_at": "2026-01-24T16:00:05.123456789+01:00"},
        {"completed_at": "2026-01-24 15:00:05"},
        {"signature": "ab" * 64},
        {"signature": "eyJhbGciOiJFZERTQSJ9.eyJqb2IiOjF9.c2ln_-A"},
        {"signature": "-----BEGIN SIGNATURE-----\nc2ln\n-----END SIGNATURE-----"},
        {"signature": "x" * 4096},
    ],
)
def test_a_statement_is_kept_as_it_was_sent(claimed: Claimed, receipt: dict[str, str]) -> None:
    done = claimed.complete(**receipt)
    assert done.status_code == 200, done.text
    shown = claimed.api.get(f"/v1/receipts/{done.json()['receipt_id']}").json()
    assert shown["miner_statement"] == {**claimed.receipt, **receipt}
    assert shown["is_miner_statement_verified"] is False
    verdict = claimed.api.post("/v1/receipts/verify", json={"receipt": shown}).json()
    assert verdict["valid"]


@pytest.mark.parametrize(
    "left_out", ["job_id", "result_hash", "completed_at", "signature"], ids=str
)
def test_what_a_statement_leaves_out_is_not_needed(claimed: Claimed, left_out: str) -> None:
    del claimed.receipt[left_out]
    done = claimed.complete()
    assert done.status_code == 200, done.text
    shown = claimed.api.get(f"/v1/receipts/{done.json()['receipt_id']}").json()
    assert shown["miner_statement"] == claimed.receipt


@pytest.mark.parametrize(
    ("receipt", "field"),
    [
        ({"result_hash": hashlib.sha256(b"another").hexdigest()}, "receipt.result_hash"),
        ({"result_hash": hashlib.sha256(RESULT.strip().encode()).hexdigest()}, "in UTF-8"),
        ({"result_hash": HASH[:-2]}, "receipt.result_hash"),
        ({"result_hash": f"md5:{HASH}"}, "receipt.result_hash"),
        ({"result_hash": 7}, "receipt.result_hash"),
        ({"result_salt": "ab" * 16}, "receipt.result_hash"),
        ({"job_id": "job-01k9zq4b5mr6t8vwxyz0123456"}, "receipt.job_id"),
        ({"lease_id": "lease-of-another"}, "receipt.lease_id"),
        ({"prompt_tokens": 3}, "receipt.prompt_tokens"),
        ({"completed_at": "soon"}, "receipt.completed_at"),
        ({"completed_at": "2026-13-24T15:00:05"}, "receipt.completed_at"),
        ({"completed_at": 1769266805}, "receipt.completed_at"),
        ({"signature": "x" * 4097}, "receipt.signature"),
        ({"signature": ["x"]}, "receipt.signature"),
        ({"nothing": "like it"}, "receipt.nothing"),
    ],
)
def test_a_statement_that_contradicts_the_call_changes_nothing(
    claimed: Claimed, receipt: dict[str, Any], field: str
) -> None:
    assert_error(claimed.complete(**receipt), 400, "INVALID_ARGUMENT", field)
    assert get(claimed.api, claimed.job_id)["status"] == "running"
    assert claimed.complete().status_code == 200


@pytest.mark.parametrize("wrong", ["top", "receipt"])
def test_a_miner_that_is_another_at_the_top_is_refused(claimed: Claimed, wrong: str) -> None:
    top, stated = claimed.miner_id, "another"
    if wrong == "top":
        top, stated = stated, top
    body = {"miner_id": top, "result": RESULT}
    other = {**claimed.receipt, "miner_id": stated}
    url = f"/v1/jobs/{claimed.job_id}/complete"
    refused = claimed.api.post(url, json={**body, "receipt": other})
    assert_error(refused, 400, "INVALID_ARGUMENT", "receipt.miner_id")


def test_a_repetition_is_answered_the_same_and_keeps_the_first_statement(claimed: Claimed) -> None:
    first = claimed.complete()
    again = claimed.complete(signature="another")
    assert again.status_code == 200
    assert again.json() == first.json()
    shown = claimed.api.get(f"/v1/receipts/{first.json()['receipt_id']}").json()
    assert shown["miner_statement"] == claimed.receipt
    wrong = claimed.complete(result_hash="00" * 32)
    assert_error(wrong, 400, "INVALID_ARGUMENT", "receipt.result_hash")


def test_a_result_without_a_statement_has_none(claimed: Claimed) -> None:
    body = {"miner_id": claimed.miner_id, "result": RESULT}
    done = claimed.api.post(f"/v1/jobs/{claimed.job_id}/complete", json=body).json()
    shown = claimed.api.get(f"/v1/receipts/{done['receipt_id']}").json()
    assert not {"miner_statement", "is_miner_statement_verified"} & set(shown)


def test_a_statement_goes_with_its_job(claimed: Claimed) -> None:
    receipt_id = claimed.complete().json()["receipt_id"]
    assert claimed.api.delete(f"/v1/jobs/{claimed.job_id}").status_code == 204
    shown = claimed.api.get(f"/v1/receipts/{receipt_id}").json()
    assert shown["receipt_id"] == receipt_id
    assert not {"miner_statement", "is_miner_statement_verified"} & set(shown)


def test_a_statement_is_for_those_whose_work_it_is(launcher: Launcher, model: str) -> None:
    closed = launcher.coordinator("--auth", "required")
    keys = {
        name: create_key(closed.data, role)
        for name, role in {
            "client": "client",
            "miner": "miner",
            "admin": "admin",
            "other client": "client",
            "other miner": "miner",
        }.items()
    }
    by = {
        name: httpx.Client(base_url=closed.url, headers={"X-Api-Key": key}, timeout=70)
        for name, key in keys.items()
    }
    miner_id = register(by["miner"], f"poller-of-{model}", model)
    job_id = submit(by["client"], model)
    by["miner"].post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).raise_for_status()
    statement = {"miner_id": miner_id, "result_hash": HASH, "signature": "mine"}
    body = {"result": RESULT, "receipt": statement}
    done = by["miner"].post(f"/v1/jobs/{job_id}/complete", json=body).json()
    path = f"/v1/receipts/{done['receipt_id']}"

    shown = {name: api.get(path).json().get("miner_statement") for name, api in by.items()}

    assert shown == {
        "client": statement,
        "miner": statement,
        "admin": statement,
        "other client": None,
        "other miner": None,
    }
    # What is public has nothing of it, nor have lists.
    anybody = httpx.Client(base_url=closed.url, timeout=70)
    for page in (f"/explorer/receipts/{done['receipt_id']}", f"/explorer/receipts?job_id={job_id}"):
        for accept in ("application/json", "text/html"):
            answer = anybody.get(page, headers={"accept": accept})
            assert HASH not in answer.text
            assert 'mine"' not in answer.text
    for api in by.values():
        assert HASH not in api.get("/v1/receipts", params={"job_id": job_id}).text
        assert HASH not in api.get("/v1/receipts").text
        api.close()
    anybody.close()

"""An operator who has the signing key rewrites the ledger: verifiers and witnesses find it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from scripts.processes import BIN, Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_all_complete, submit_many

ENV = {**CLEAN_ENV, "AITBC_LEDGER_BLOCK_SECONDS": "0.1"}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who verifies, with a home of their own."""
    return {**CLEAN_ENV, "XDG_STATE_HOME": str(tmp_path / "state")}


def run(
    env: Mapping[str, str], program: str, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    argv = [BIN / program, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env)


def verify(
    env: Mapping[str, str], coordinator: Coordinator, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    url = ("ledger", "verify", "--url", coordinator.url)
    return run(env, "aitbc-coordinator", *url, *arguments)


def sealed_jobs(launcher: Launcher, coordinator: Coordinator, count: int) -> list[str]:
    """Returns jobs whose receipts are in a block."""
    miner = launcher.miner(coordinator)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        jobs = submit_many(api, count)
        assert_all_complete(api, jobs)
        deadline = time.monotonic() + 60
        while api.get("/explorer/stats").json().get("pending_receipts", 0):
            assert time.monotonic() < deadline
    miner.terminate()
    return jobs


def rewritten(
    launcher: Launcher, coordinator: Coordinator, tmp_path: Path, env: Mapping[str, str] = ENV
) -> Coordinator:
    """Returns another coordinator with the keys and the name of one, and another history."""
    coordinator.program.terminate()
    data = tmp_path / "rewritten"
    data.mkdir(mode=0o700)
    shutil.copytree(coordinator.data / "ledger-keys", data / "ledger-keys")
    other = Coordinator(
        program=coordinator.program, http="127.0.0.1:0", grpc="127.0.0.1:0", data=data
    )
    return launcher.again(other, env=env)


def test_who_verified_before_finds_a_rewritten_ledger(
    launcher: Launcher, home: dict[str, str], tmp_path: Path
) -> None:
    coordinator = launcher.coordinator(env=ENV)
    job, *_ = sealed_jobs(launcher, coordinator, 5)
    first = verify(home, coordinator)
    assert first.returncode == 0, first.stderr
    assert "Kept its checkpoint in" in first.stderr
    target = ("--coordinator", coordinator.grpc)
    assert run(home, "aitbc", *target, "verify", job).returncode == 0
    sealed_jobs(launcher, coordinator, 3)
    assert verify(home, coordinator).returncode == 0

    other = rewritten(launcher, coordinator, tmp_path)
    job, *_ = sealed_jobs(launcher, other, 20)
    stranger = {**home, "XDG_STATE_HOME": str(tmp_path / "stranger")}
    assert verify(stranger, other).returncode == 0
    again = verify(home, other)
    assert again.returncode == 1
    assert "the checkpoint that was kept" in again.stderr
    receipt = run(home, "aitbc", "--coordinator", other.grpc, "verify", job)
    assert receipt.returncode == 1
    assert "\u2717 history" in receipt.stdout


def test_a_witness_cosigns_and_finds_a_rewritten_ledger(
    launcher: Launcher, home: dict[str, str], tmp_path: Path
) -> None:
    witness_data = tmp_path / "witness"
    follow = ("witness", "--data", witness_data, "--name", "witness.example", "--once", "--url")
    # Who it is shows before anybody knows it.
    unknown = run(home, "aitbc-coordinator", *follow, "http://127.0.0.1:1")
    assert unknown.returncode == 1
    key = unknown.stdout.strip()
    assert key.startswith("witness.example+")

    env = {**ENV, "AITBC_LEDGER_WITNESSES": key}
    coordinator = launcher.coordinator(env=env)
    job, *_ = sealed_jobs(launcher, coordinator, 5)
    none = verify(home, coordinator, "--witness", key)
    assert none.returncode == 1
    assert "it has cosigned no checkpoint" in none.stderr
    cosigned = run(home, "aitbc-coordinator", *follow, coordinator.url)
    assert cosigned.returncode == 0, cosigned.stderr
    assert "5 receipts" in cosigned.stderr
    assert key.split("+")[0] in httpx.get(f"{coordinator.url}/checkpoint").text
    by_witness = verify(home, coordinator, "--witness", key)
    assert by_witness.returncode == 0, by_witness.stderr
    assert "5 of them cosigned by every witness" in by_witness.stdout
    receipt = run(home, "aitbc", "--coordinator", coordinator.grpc, "verify", job, "--witness", key)
    assert receipt.returncode == 0, receipt.stdout
    assert "\u2713 witness witness.example" in receipt.stdout
    # From its directory too.
    stored = ("ledger", "verify", "--data", coordinator.data, "--witness", key)
    assert run(home, "aitbc-coordinator", *stored).returncode == 0

    other = rewritten(launcher, coordinator, tmp_path, env)
    sealed_jobs(launcher, other, 8)
    found = run(home, "aitbc-coordinator", *follow, other.url)
    assert found.returncode == 1
    assert "is wrong" in found.stderr
    assert verify(home, other, "--witness", key).returncode == 1


def test_only_witnesses_that_the_operator_named_are_taken(
    launcher: Launcher, home: dict[str, str], tmp_path: Path
) -> None:
    coordinator = launcher.coordinator(env=ENV)
    sealed_jobs(launcher, coordinator, 1)
    stranger = ("witness", "--data", tmp_path / "stranger", "--once", "--url", coordinator.url)
    refused = run(home, "aitbc-coordinator", *stranger)
    assert refused.returncode == 1
    assert "AITBC_LEDGER_WITNESSES" in refused.stderr
    bad = httpx.post(f"{coordinator.url}/explorer/cosignatures", json={"checkpoint": "x"})
    assert (bad.status_code, bad.json()["error_code"]) == (400, "INVALID_ARGUMENT")


def test_a_pinned_key_that_is_not_the_ledger_s_is_refused(
    launcher: Launcher, home: dict[str, str]
) -> None:
    coordinator = launcher.coordinator(env=ENV)
    sealed_jobs(launcher, coordinator, 1)
    keys = httpx.get(f"{coordinator.url}/.well-known/aitbc-keys.json").json()["keys"]
    for name in ("public_key", "verifier_key"):
        assert verify(home, coordinator, "--key", keys[0][name]).returncode == 0
    other = verify(home, coordinator, "--key", f"{'A' * 43}=")
    assert other.returncode == 1
    assert "the pinned key is none of the ledger's" in other.stderr
    assert verify(home, coordinator, "--key", "nonsense").returncode == 2
    assert verify(home, coordinator, "--witness", "nonsense").returncode == 2

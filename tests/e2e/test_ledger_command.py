"""The command `aitbc-coordinator ledger`, and what a kill leaves of a ledger."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from scripts.processes import BIN

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_all_complete, submit_many

EAGER = {
    **CLEAN_ENV,
    "AITBC_LEDGER_BLOCK_SECONDS": "0.1",
    "AITBC_LEDGER_BLOCK_RECEIPTS": "7",
    # Leases that a kill left without a miner are over soon.
    "AITBC_LEASE_SECONDS": "2",
    "AITBC_HEARTBEAT_SECONDS": "0.5",
}


def ledger(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [BIN / "aitbc-coordinator", "ledger", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=CLEAN_ENV)


def verified(*arguments: str | Path) -> str:
    done = ledger("verify", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_ledger_is_verified_in_its_directory_and_from_outside(launcher: Launcher) -> None:
    coordinator = launcher.coordinator(env=EAGER)
    launcher.miner(coordinator)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        assert_all_complete(api, submit_many(api, 300))
        # While it serves.
        assert " 300 receipts in " in verified("--data", coordinator.data)
        coordinator.program.terminate()
        again = launcher.again(coordinator, env=EAGER)
        assert " 300 receipts in " in verified("--url", f"{again.url}/api/")
        again.program.terminate()
    assert "in none yet" not in verified("--data", coordinator.data)


def test_a_new_key_signs_from_the_next_block_on(launcher: Launcher) -> None:
    coordinator = launcher.coordinator(env=EAGER)
    launcher.miner(coordinator)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        assert_all_complete(api, submit_many(api, 5))
        rotated = ledger("rotate-key", "--data", coordinator.data)
        assert rotated.returncode == 0, rotated.stderr
        public_key = rotated.stdout.strip()
        deadline = time.monotonic() + 60
        while not (found := keys(api)) or public_key not in found:
            assert_all_complete(api, submit_many(api, 5))
            assert time.monotonic() < deadline
        assert len(found) == 2
        assert "by 2 keys" in verified("--data", coordinator.data)
        coordinator.program.terminate()
        again = launcher.again(coordinator, env=EAGER)
        assert "by 2 keys" in verified("--url", again.url)
    files = sorted((coordinator.data / "ledger-keys").iterdir())
    assert [file.name for file in files] == ["0001.pem", "0002.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def keys(api: httpx.Client) -> list[str]:
    published = api.get("/.well-known/aitbc-keys.json").json()
    return [key["public_key"] for key in published["keys"]]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--data", "nowhere"), "coordinator.db"), (("--url", "http://127.0.0.1:9"), "refused")],
)
def test_what_cannot_be_read_is_named(arguments: tuple[str, str], named: str) -> None:
    done = ledger("verify", *arguments)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kill_at_any_moment_leaves_each_receipt_in_exactly_one_block(launcher: Launcher) -> None:
    coordinator = launcher.coordinator(env=EAGER)
    launcher.miner(coordinator)
    jobs = []
    for number in range(3):
        with httpx.Client(base_url=coordinator.url, timeout=70) as api:
            jobs += submit_many(api, 200)
            # In the middle of sealing: a block is made every seven receipts.
            first_block = api.get("/explorer/stats").json()["blocks"]
            deadline = time.monotonic() + 60
            while api.get("/explorer/stats").json()["blocks"] <= first_block + number:
                assert time.monotonic() < deadline
        coordinator.program.kill()
        verified("--data", coordinator.data)
        coordinator = launcher.again(coordinator, env=EAGER)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        assert_all_complete(api, jobs)
    coordinator.program.terminate()
    assert " 600 receipts in " in verified("--data", coordinator.data)
    with sqlite3.connect(f"file:{coordinator.data}/coordinator.db?mode=ro", uri=True) as database:
        receipts, of_jobs, sealed = database.execute(
            "SELECT count(*), count(DISTINCT job_id), (SELECT max(tree_size) FROM blocks) "
            "FROM receipts"
        ).fetchone()
    assert (receipts, of_jobs, sealed) == (600, 600, 600)

"""The verifier in examples/verify-receipt, over what a coordinator publishes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripts.processes import ROOT

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_all_complete, get, submit_many

VERIFIER = ROOT / "examples" / "verify-receipt" / "verify.mjs"
Files = dict[str, Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """What a client downloads, of a ledger with many blocks."""
    launcher = Launcher(tmp_path_factory.mktemp("example"))
    env = {**CLEAN_ENV, "AITBC_LEDGER_BLOCK_RECEIPTS": "1", "AITBC_LEDGER_BLOCK_SECONDS": "0.1"}
    coordinator = launcher.coordinator(env=env)
    launcher.miner(coordinator)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        for _ in range(3):
            jobs = submit_many(api, 20)
            assert_all_complete(api, jobs)
        receipt_id = get(api, jobs[7])["receipt_id"]
        yield {
            "receipt": api.get(f"/v1/receipts/{receipt_id}").json(),
            "keys": api.get("/.well-known/aitbc-keys.json").json(),
            "blocks": api.get("/explorer/blocks", params={"limit": 100}).json(),
        }
    launcher.close()


def verdict(directory: Path, files: Files) -> tuple[int, str]:
    paths = []
    for name, content in files.items():
        path = directory / f"{name}.json"
        path.write_text(json.dumps(content))
        paths.append(path)
    done = subprocess.run(["node", VERIFIER, *paths], capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return done.returncode, done.stdout


def test_an_honest_receipt_is_valid(files: Files, tmp_path: Path) -> None:
    status, said = verdict(tmp_path, files)
    assert status == 0, said
    assert "BAD" not in said
    for name in ("coordinator's signature", "miner's signature", "inclusion", "chain"):
        assert f"ok   {name}" in said


def changed(path: str, change: Callable[[Any], Any]) -> Callable[[Files], None]:
    def apply(files: Files) -> None:
        *steps, last = path.split(".")
        place: Any = files
        for step in steps:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[last] = change(place[last])

    return apply


def bent(text: str) -> str:
    return ("1" if text[0] != "1" else "2") + text[1:]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (changed("receipt.price", lambda _: "1000"), "coordinator's signature"),
        (changed("receipt.model", lambda model: model + "!"), "leaf"),
        (changed("receipt.result_hash", bent), "miner's signature"),
        (changed("receipt.miner_id", lambda _: "another"), "miner's signature"),
        (changed("receipt.signature.signature", bent), "coordinator's signature"),
        (changed("receipt.proof.leaf_index", lambda index: index + 1), "inclusion"),
        (
            changed("receipt.proof.checkpoint", lambda note: note.replace("height", "Height")),
            "checkpoint",
        ),
        (changed("keys.keys", lambda _: []), "coordinator's key"),
        (changed("blocks.blocks", lambda blocks: blocks[:1] + blocks[2:]), "chain"),
        (changed("blocks.blocks", lambda blocks: blocks[::-1]), "chain"),
        (changed("blocks.blocks", lambda _: []), "its block in the chain"),
        (
            changed("blocks.blocks.0.checkpoint", lambda note: note.replace("time 2", "time 1")),
            "blocks",
        ),
    ],
)
def test_what_was_changed_is_found(
    files: Files, tmp_path: Path, change: Callable[[Files], None], found: str
) -> None:
    copy = json.loads(json.dumps(files))
    change(copy)
    status, said = verdict(tmp_path, copy)
    assert status == 1
    assert f"BAD  {found}" in said, said


def test_the_example_is_short_and_needs_nothing_but_node() -> None:
    lines = VERIFIER.read_text().splitlines()
    assert len(lines) < 150
    assert [line for line in lines if " from " in line and "node:" not in line] == []

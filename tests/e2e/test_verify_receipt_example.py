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
from tests.e2e.jobs import assert_all_complete, final, get, submit_many

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
            "job": api.get(f"/v1/jobs/{jobs[7]}").json(),
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
    opened = ("job", "prompt", "request", "result", "answer")
    for name in ("coordinator's signature", "miner's signature", "inclusion", "chain", *opened):
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
        (changed("job.prompt", bent), "prompt"),
        (changed("job.model", lambda model: model + "!"), "request"),
        (changed("job.result", bent), "result"),
        (changed("job.finish_reason", lambda _: "length"), "answer"),
        (changed("job.job_id", bent), "job"),
        (changed("job.miner_id", bent), "job"),
        (changed("job.status", lambda _: "failed"), "job"),
        (changed("job.attempt", lambda attempt: attempt + 1), "job"),
        (changed("job.started_at", bent), "job"),
        (changed("job.usage.completion_tokens", lambda _: 9999), "job"),
        (changed("receipt.leaf_index", lambda index: index + 1), "place"),
        (changed("receipt.block_height", lambda height: height + 1), "place"),
        (changed("receipt.status", lambda _: "pending"), "place"),
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


# Of each kind of value that is written in a way of its own.
ASKED: dict[str, dict[str, Any]] = {
    "sampling": {
        "prompt": "x",
        "params": {
            "temperature": 0.7,
            "top_p": 1,
            "top_k": -1,
            "seed": 4_000_000_000,
            "stop": ["é", "\n"],
            "presence_penalty": -0.1,
            "logit_bias": {"17": -3.5, "5": 100},
            "skip_special_tokens": False,
        },
    },
    "conversation": {
        "messages": [{"role": "user", "content": "hallo, Röntgen 🙂"}],
        "prompt_options": {"add_generation_prompt": False, "continue_final_message": True},
        "parallel_tool_calls": False,
    },
    "tokens": {"prompt_token_ids": [1, 2, 3]},
    "vectors": {"task": "embed", "inputs": [{"text": "one"}, {"text": "two"}], "dimensions": 8},
}


@pytest.mark.parametrize("name", ASKED)
def test_any_job_is_held_against_its_receipt(name: str, launcher: Launcher, tmp_path: Path) -> None:
    coordinator = launcher.coordinator()
    launcher.miner(coordinator)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        submitted = api.post("/v1/jobs", json={"model": "llama3.2", **ASKED[name]})
        assert submitted.status_code == 201, submitted.text
        job = final(api, submitted.json()["job_id"])
        assert job["status"] == "completed", job
        content = {
            "receipt": api.get(f"/v1/receipts/{job['receipt_id']}").json(),
            "keys": api.get("/.well-known/aitbc-keys.json").json(),
            "blocks": {"blocks": []},
            "job": job,
        }
        content["receipt"].pop("proof", None)
    status, said = verdict(tmp_path, content)
    # Signed is not yet in the ledger.
    assert (status, said.count("BAD")) == (1, 1), said
    assert "BAD  inclusion: it has no proof" in said
    for opened in ("job", "prompt", "request", "result", "answer"):
        assert f"ok   {opened}" in said


def test_the_example_is_short_and_needs_nothing_but_node() -> None:
    lines = VERIFIER.read_text().splitlines()
    assert len(lines) < 220
    assert [line for line in lines if " from " in line and "node:" not in line] == []

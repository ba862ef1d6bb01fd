"""The command `aitbc` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher

_PATIENCE_S = 90


def _aitbc(
    coordinator: Coordinator, *words: str, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aitbc_client.cli", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
        env=CLEAN_ENV | {"AITBC_COORDINATOR": coordinator.grpc} | env,
    )


def _answers(target: Path) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in target.read_text().splitlines()]


def _sealed(api: httpx.Client, receipt_id: str) -> dict[str, Any]:
    """Returns a receipt as soon as a block holds it."""
    ends_at = time.monotonic() + _PATIENCE_S
    while "proof" not in (receipt := api.get(f"/v1/receipts/{receipt_id}").json()):
        assert time.monotonic() < ends_at
        time.sleep(0.2)
    return dict(receipt)


def test_an_answer_is_printed_as_it_is(coordinator: Coordinator) -> None:
    prompt = "[bold]so[/bold] :smile: naïve 🙂"
    done = _aitbc(coordinator, "submit", "-m", "llama3.2", "--wait", prompt)
    assert (done.returncode, done.stdout, done.stderr) == (0, prompt + "\n", "")


def test_a_prompt_comes_from_stdin_and_the_model_from_the_environment(
    coordinator: Coordinator,
) -> None:
    submitted = _aitbc(coordinator, "submit", "-", stdin="from stdin", AITBC_MODEL="llama3.2")
    assert submitted.returncode == 0
    waited = _aitbc(coordinator, "wait", submitted.stdout.strip(), "--json")
    assert json.loads(waited.stdout)["result"] == "from stdin"
    listed = _aitbc(coordinator, "list", "--json", "--limit", "1000")
    assert submitted.stdout.strip() in listed.stdout


def test_a_job_is_cancelled(coordinator: Coordinator, model: str) -> None:
    job_id = _aitbc(coordinator, "submit", "-m", model, "x").stdout.strip()
    cancelled = _aitbc(coordinator, "cancel", job_id)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"{job_id} is cancelled\n")
    waited = _aitbc(coordinator, "wait", job_id)
    assert (waited.returncode, waited.stdout) == (1, "")
    assert "(CANCELLED)" in waited.stderr


def test_a_job_is_deleted_and_its_receipt_stays(coordinator: Coordinator, model: str) -> None:
    answered = _aitbc(coordinator, "submit", "-m", "llama3.2", "--wait", "--json", "x").stdout
    waiting = _aitbc(coordinator, "submit", "-m", model, "x").stdout.strip()
    job_id = json.loads(answered)["job_id"]
    done = _aitbc(coordinator, "delete", job_id, waiting)
    assert (done.returncode, done.stdout) == (1, f"{job_id} is deleted\n")
    assert done.stderr.startswith("aitbc: the job has not ended yet")
    assert "(JOB_NOT_FINAL)" in done.stderr
    assert "(JOB_NOT_FOUND)" in _aitbc(coordinator, "wait", job_id).stderr
    verified = _aitbc(coordinator, "verify", job_id, "--signature-only")
    assert (verified.returncode, verified.stdout.count("\u2717")) == (0, 0)


def test_a_receipt_is_held_against_a_job_in_a_file(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    answered = _aitbc(coordinator, "submit", "-m", "llama3.2", "--wait", "--json", "x").stdout
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        job = api.get(f"/v1/jobs/{json.loads(answered)['job_id']}").json()
        receipt = _sealed(api, job["receipt_id"])
        (key, *_) = api.get("/.well-known/aitbc-keys.json").json()["keys"]
    held = tmp_path / "receipt.json"

    def verified(job: object, *more: str, without: str = "") -> tuple[int, str, str]:
        file = tmp_path / "job.json"
        file.write_text(json.dumps(job))
        held.write_text(json.dumps({n: v for n, v in receipt.items() if n != without}))
        # Nobody is asked.
        words = ("verify", str(held), "--job", str(file), "--key", key["public_key"], *more)
        done = _aitbc(coordinator, *words, AITBC_COORDINATOR="127.0.0.1:1")
        return done.returncode, done.stdout, done.stderr

    status, said, _ = verified(job)
    assert (status, said.count("\u2717")) == (0, 0)
    for name in ("inclusion", "checkpoint", "job", "prompt", "result", "request", "answer"):
        assert f"\u2713 {name}: it holds" in said
    status, said, _ = verified(job | {"result": "FORGED"}, without="disclosure")
    assert (status, "\u2717 result: the receipt lacks the salt" in said) == (1, True)
    status, said, _ = verified(job, without="proof")
    assert (status, "\u2717 inclusion: it has no proof" in said) == (1, True)
    assert verified(job, "--signature-only", without="proof")[0] == 0
    assert verified(job, "--signature-only", "--checkpoint", "x")[0] == 2
    for change, name in (
        ({"model": "another"}, "request"),
        ({"tools": [{"name": "pay"}]}, "request"),
        ({"finish_reason": "length"}, "answer"),
        ({"tool_calls": 7}, "answer"),
        ({"logprobs": 7}, "answer"),
        ({"params": {"temperature": "hot"}}, "request"),
        ({"result": None}, "result"),
        ({"job_id": "job-other"}, "job"),
        ({"miner_id": "another"}, "job"),
        ({"usage": {"completion_tokens": 9999}}, "job"),
        ({"attempt": 2}, "job"),
        ({"completed_at": job["created_at"]}, "job"),
    ):
        status, said, wrong = verified(job | change)
        assert status == 1, wrong
        assert f"\u2717 {name}:" in said
    status, _, said = verified([job])
    assert (status, "holds no job" in said) == (2, True)


def test_jobs_and_miners_are_shown_as_tables(coordinator: Coordinator, model: str) -> None:
    job_id = _aitbc(coordinator, "submit", "-m", model, "x").stdout.strip()
    assert job_id in _aitbc(coordinator, "list", "--model", model).stdout
    assert "shared-echo" in _aitbc(coordinator, "miners").stdout
    assert _aitbc(coordinator, "list", "--model", "nobody-asked").stdout == "none\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("wait", "job-nope"), 1, "aitbc: Job not found (JOB_NOT_FOUND)\n"),
        (
            ("submit", "-m", "m", "x", "--temperature", "9"),
            1,
            "aitbc: params.temperature: must be at most 2 (INVALID_ARGUMENT)\n",
        ),
        (("submit", "x"), 2, "Missing option '--model'"),
        (("list", "--status", "done"), 2, "'pending'"),
    ],
)
def test_a_mistake_is_named(
    coordinator: Coordinator, words: tuple[str, ...], status: int, said: str
) -> None:
    done = _aitbc(coordinator, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_file_is_answered(coordinator: Coordinator, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [{"prompt": f"job {n} é", "custom_id": f"c{n}"} for n in range(300)]
    source.write_text("\n".join(map(json.dumps, lines)))
    done = _aitbc(coordinator, "batch", str(source), str(target), "-m", "llama3.2")
    assert done.returncode == 0, done.stderr
    assert f"300 of 300 lines answered in {target}" in done.stderr
    answers = {answer["line"]: answer for answer in _answers(target)}
    assert len(answers) == 300
    for number, answer in answers.items():
        assert isinstance(number, int)
        line = lines[number - 1]
        assert (answer["result"], answer["custom_id"]) == (line["prompt"], line["custom_id"])
    assert not (tmp_path / "out.jsonl.run").exists()


def test_a_line_that_the_coordinator_refuses_fails_alone(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        '\n{"prompt": "x", "params": {"max_tokens": 0}}\n{"prompt": "y"}\n{"promt": "z"}\n'
    )
    done = _aitbc(coordinator, "batch", str(source), str(target), "-m", "llama3.2")
    assert done.returncode == 1, done.stderr
    assert "3 of 3 lines answered" in done.stderr
    told = {one["line"]: one for one in map(json.loads, target.read_text().splitlines())}
    assert told[2]["error"]["code"] == "INVALID_ARGUMENT"
    assert "params.max_tokens" in told[2]["error"]["message"]
    assert told[3]["result"] == "y"
    assert told[4]["error"] == {
        "code": "INVALID_LINE",
        "message": "unknown field promt; other data goes under metadata",
    }


def test_a_run_that_was_killed_goes_on_and_makes_no_job_twice(
    launcher: Launcher, tmp_path: Path
) -> None:
    coordinator = launcher.coordinator()
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": f"job {n}"}) for n in range(200)))
    words = ("batch", str(source), str(target), "-m", "llama3.2", "--concurrency", "150")
    with subprocess.Popen(
        [sys.executable, "-m", "aitbc_client.cli", *words],
        stderr=subprocess.DEVNULL,
        env=CLEAN_ENV | {"AITBC_COORDINATOR": coordinator.grpc},
    ) as first:
        # No miner: all that it may have under way is submitted, and nothing is answered.
        while len(_jobs(coordinator)) < 150:
            pass
        first.kill()
    assert target.read_text() == ""
    launcher.miner(coordinator)
    done = _aitbc(coordinator, *words)
    assert done.returncode == 0, done.stderr
    assert sorted(answer["line"] for answer in _answers(target)) == list(range(1, 201))  # type: ignore[type-var]
    assert len(_jobs(coordinator)) == 200


def _jobs(coordinator: Coordinator) -> list[str]:
    return _aitbc(coordinator, "list", "--json", "--limit", "1000").stdout.splitlines()


def test_a_receipt_is_shown_kept_and_verified(launcher: Launcher, tmp_path: Path) -> None:
    coordinator = launcher.coordinator(env=CLEAN_ENV | {"AITBC_LEDGER_BLOCK_SECONDS": "0.1"})
    launcher.miner(coordinator)
    submitted = _aitbc(coordinator, "submit", "-m", "llama3.2", "--wait", "--json", "hello")
    job = json.loads(submitted.stdout)
    kept, receipt = tmp_path / "receipt.json", {"status": "pending"}
    while receipt["status"] != "sealed":
        shown = _aitbc(coordinator, "receipt", job["job_id"], "--json").stdout
        receipt = json.loads(shown)
    kept.write_text(shown)
    assert receipt["receipt_id"] in _aitbc(coordinator, "receipts").stdout
    assert (
        f"receipt_id        {job['receipt_id']}"
        in _aitbc(coordinator, "receipt", job["receipt_id"]).stdout
    )
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        _sealed(api, job["receipt_id"])
    by_id = _aitbc(coordinator, "verify", job["job_id"])
    assert (by_id.returncode, by_id.stdout.count("\u2717")) == (0, 0)
    assert "\u2713 result: it holds" in by_id.stdout
    by_file = _aitbc(coordinator, "verify", str(kept))
    assert (by_file.returncode, by_file.stdout.count("\u2717")) == (0, 0)
    kept.write_text(shown.replace('"attempt": 1', '"attempt": 2'))
    tampered = _aitbc(coordinator, "verify", str(kept))
    assert tampered.returncode == 1
    assert "\u2717 coordinator_signature" in tampered.stdout
    other = _aitbc(coordinator, "verify", job["job_id"], "--key", f"{'A' * 43}=")
    assert other.returncode == 1
    assert "\u2717 coordinator_key" in other.stdout

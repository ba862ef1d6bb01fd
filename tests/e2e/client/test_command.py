"""The command `aitbc` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

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
    verified = _aitbc(coordinator, "verify", job_id)
    assert (verified.returncode, verified.stdout.count("\u2717")) == (0, 0)


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

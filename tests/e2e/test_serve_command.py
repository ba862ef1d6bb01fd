"""What `aitbc-coordinator serve` says when it cannot start, and when it should not be open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
from scripts.processes import Coordinator, Program

from tests.conftest import CLEAN_ENV, Launcher

COMMAND = ".venv/bin/aitbc-coordinator"
FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


def serve(*options: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a coordinator that is expected to end by itself."""
    return subprocess.run(
        [COMMAND, "serve", *options],
        env=CLEAN_ENV,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_taken_port_is_named(coordinator: Coordinator, tmp_path: Path) -> None:
    for port in (("--http", coordinator.http), ("--grpc", coordinator.grpc)):
        ended = serve(*FREE, *port, "--data", tmp_path)
        assert ended.returncode == 1
        assert f"cannot listen on {port[1]}" in ended.stderr


def test_a_directory_serves_one_coordinator(coordinator: Coordinator) -> None:
    ended = serve(*FREE, "--data", coordinator.data)
    assert ended.returncode == 1
    assert "another coordinator serves from" in ended.stderr


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.db"
    file.write_text("something else")
    ended = serve(*FREE, "--data", tmp_path)
    assert ended.returncode == 1
    assert "file is not a database" in ended.stderr
    assert file.read_text() == "something else"


def test_a_wrong_address_is_explained() -> None:
    ended = serve("--http", "8080")
    assert ended.returncode == 2
    assert "HOST:PORT" in ended.stderr


def test_a_key_is_required_when_that_is_said(launcher: Launcher) -> None:
    closed = launcher.coordinator("--auth", "required")
    with httpx.Client(base_url=closed.url) as api:
        assert api.get("/health").status_code == 200
        assert api.get("/v1/stats").status_code == 200
        refused = api.get("/v1/jobs")
    assert refused.status_code == 401
    assert refused.json()["error_code"] == "UNAUTHENTICATED"


def test_a_key_is_required_off_loopback_unless_open_is_said_which_is_warned_of(
    tmp_path: Path, launcher: Launcher
) -> None:
    outside = ("--http", "0.0.0.0:0", "--grpc", "127.0.0.1:0")
    for options, mode in (((), "required"), (("--auth", "open"), "open")):
        argv = [COMMAND, "serve", *outside, "--data", tmp_path / mode, *options]
        program = launcher.own(Program(argv, log=tmp_path / f"{mode}.log", env=CLEAN_ENV))
        ready = program.wait_for_line(r"ready http=0\.0\.0\.0:(\d+).* auth=(\w+)", timeout_s=60)
        assert ready[2] == mode
        answer = httpx.get(f"http://127.0.0.1:{ready[1]}/v1/jobs")
        assert answer.status_code == (401 if mode == "required" else 200)
        is_warned = "anybody who reaches these addresses" in program.tail()
        assert is_warned == (mode == "open")

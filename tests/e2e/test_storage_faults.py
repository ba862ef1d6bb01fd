"""A disk that is full, read-only or damaged costs service, and never what was acknowledged."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chaos.disk import Disk, NoDiskError
from scripts.processes import Coordinator

from aitbc_server.store.connection import sqlite3
from aitbc_server.store.directory import FILE_NAME
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_all_complete, assert_error, final, get, submit, submit_many
from tests.e2e.test_serve_command import COMMAND, FREE, serve

# More than a full disk has left.
LARGE = "x" * 300_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of the test's own."""
    try:
        disk = Disk(tmp_path / "disk")
    except NoDiskError as error:
        pytest.skip(f"mounting a disk is not allowed here: {error}")
    yield disk
    disk.unmount()


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs `aitbc-coordinator` to its end."""
    return subprocess.run(
        [COMMAND, *arguments], env=CLEAN_ENV, capture_output=True, text=True, timeout=60
    )


def client(coordinator: Coordinator) -> httpx.Client:
    """Returns a client of the coordinator's REST API."""
    return httpx.Client(base_url=coordinator.url, timeout=70)


def test_a_full_disk_refuses_the_new_keeps_the_old_and_recovers(
    launcher: Launcher, disk: Disk
) -> None:
    coordinator = launcher.coordinator_on(disk.path / "data")
    with client(coordinator) as api:
        waiting = submit_many(api, 20)
        disk.fill()
        refused = api.post("/v1/jobs", json={"prompt": LARGE, "model": "llama3.2"})
        assert_error(refused, 503, "STORAGE_UNAVAILABLE")
        assert int(refused.headers["Retry-After"]) >= 1
        assert api.get("/health/ready").json()["checks"]["store"] != "ok"
        assert api.get("/health/live").status_code == 200
        # What is stored can be read, and work goes on as soon as it can be stored.
        assert get(api, waiting[0])["status"] == "pending"
        launcher.miner(coordinator)
        disk.free()
        assert_all_complete(api, [*waiting, submit(api)])
        while api.get("/health/ready").status_code != 200:
            assert coordinator.program.exit_status is None
        jobs = api.get("/v1/jobs", params={"limit": 100}).json()["jobs"]
    assert {job["job_id"] for job in jobs} >= set(waiting)
    assert len(jobs) == len(waiting) + 1
    assert "free space on its disk" in coordinator.program.tail(1000)
    assert LARGE[:100] not in coordinator.program.tail(1000)


def test_a_result_that_finds_the_disk_full_is_stored_when_there_is_room(
    launcher: Launcher, disk: Disk
) -> None:
    coordinator = launcher.coordinator_on(disk.path / "data")
    launcher.miner(coordinator, "--engine-opt", "latency=1")
    with client(coordinator) as api:
        job_id = submit(api, prompt=LARGE)
        while get(api, job_id)["status"] == "pending":
            pass
        disk.fill()
        coordinator.program.wait_for_line("store.write_failed", timeout_s=30)
        assert get(api, job_id)["status"] == "running"
        disk.free()
        job = final(api, job_id)
    assert (job["status"], job["result"], job["attempt"]) == ("completed", LARGE, 1)


def test_a_disk_without_room_or_leave_to_write_is_named_at_the_start(disk: Disk) -> None:
    disk.fill()
    ended = serve(*FREE, "--data", disk.path / "data")
    assert ended.returncode == 1
    assert "free space on its disk" in ended.stderr
    assert "Traceback" not in ended.stderr
    disk.free()
    disk.make_read_only()
    ended = serve(*FREE, "--data", disk.path / "data")
    assert ended.returncode == 1
    assert "Read-only file system" in ended.stderr
    assert str(disk.path) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_database_says_how_to_restore_it_and_a_backup_does(
    launcher: Launcher, tmp_path: Path
) -> None:
    before = launcher.coordinator()
    launcher.miner(before)
    with client(before) as api:
        job_ids = submit_many(api, 50)
        assert_all_complete(api, job_ids)
    copy = tmp_path / "copy.db"
    made = command("backup", copy, "--data", before.data)
    assert made.returncode == 0, made.stderr
    assert str(copy) in made.stdout
    assert before.program.terminate() == 0

    database = before.data / FILE_NAME
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 20)
    ended = serve(*FREE, "--data", before.data)
    assert ended.returncode == 1
    assert "aitbc-coordinator restore BACKUP --data DIR --replace" in ended.stderr
    assert "Traceback" not in ended.stderr

    restored = command("restore", copy, "--data", before.data, "--replace")
    assert restored.returncode == 0, restored.stderr
    with client(launcher.again(before)) as api:
        assert [get(api, job_id)["status"] for job_id in job_ids] == ["completed"] * len(job_ids)


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    assert command("backup", tmp_path / "copy", "--data", tmp_path).returncode == 1
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(
        "CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    database.execute("INSERT INTO _sqlite_migrations VALUES ('aitbc', 'schema_9999.sql', '')")
    database.commit()
    database.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    ended = serve(*FREE, "--data", tmp_path)
    assert ended.returncode == 1
    assert "written by a newer aitbc-coordinator" in ended.stderr
    assert b"schema_0001" not in (tmp_path / FILE_NAME).read_bytes()
    assert len((tmp_path / FILE_NAME).read_bytes()) == len(before)

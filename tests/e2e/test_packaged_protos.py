"""Who has no clone has the protos too: they are in the wheel, and a command writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from scripts.processes import BIN, ROOT

from tests.conftest import CLEAN_ENV

PROTOS = ROOT / "protos"
# Beside what only `buf breaking` reads and what explains the repository.
TOLD = {
    str(path.relative_to(PROTOS)): path.read_bytes()
    for path in PROTOS.rglob("*")
    if path.is_file() and path.name not in ("released.binpb", "README.md")
}


def _write(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "aitbc-coordinator", "protos", "--out", out],
        capture_output=True,
        text=True,
        env=CLEAN_ENV,
        timeout=60,
    )


def _below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_command_writes_all_that_generators_need(tmp_path: Path) -> None:
    out = tmp_path / "new" / "protos"
    done = _write(out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(TOLD)} files in {out}\n"
    assert _below(out) == TOLD
    assert "google/api/annotations.proto" in TOLD
    # And again, over what is there.
    (out / "aitbc/v1/jobs.proto").write_text("old")
    assert _write(out).returncode == 0
    assert _below(out) == TOLD
    jobs = out / "aitbc/v1/jobs.proto"
    subprocess.run([BIN / "protoc", "-I", out, f"--ruby_out={tmp_path}", jobs], check=True)
    assert (tmp_path / "aitbc/v1/jobs_pb.rb").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = _write(tmp_path / "file" / "protos")
    assert done.returncode == 2
    assert "cannot write there" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=CLEAN_ENV, timeout=120)
    [built] = directory.glob("*.whl")
    return built


def test_the_wheel_has_them(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        prefix = "aitbc_server/protos/"
        names = [name for name in archive.namelist() if name.startswith(prefix)]
        inside = {name.removeprefix(prefix): archive.read(name) for name in names}
    assert "released.binpb" not in inside
    inside.pop("google/README.md", None)
    assert inside == TOLD


def test_the_command_of_an_unpacked_wheel_writes_the_same(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    program = "from aitbc_server.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", program, "protos", "--out", tmp_path / "out"],
        # Before the clone, which is installed as editable.
        env={**CLEAN_ENV, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    assert _below(tmp_path / "out") == TOLD

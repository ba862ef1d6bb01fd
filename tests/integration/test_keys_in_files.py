"""Keys come from files and from the environment, and commands say where one is seen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scripts.processes import BIN

from tests.conftest import CLEAN_ENV

AITBC = [str(BIN / "aitbc"), "--timeout", "0.1"]
MINER = [str(BIN / "aitbc-miner"), "run", "--engine", "echo", "--model", "m"]
# Reserved for documentation: nothing answers there.
ELSEWHERE = "192.0.2.1:1"
HERE = "127.0.0.1:1"
ON_ARGV = "others see --api-key"
IN_CLEAR = "unencrypted, for all to read: use --tls"


def said(command: list[str], *, stop_at: str = "", **environment: str) -> str:
    """Returns what a command says until it ends, or until it says this."""
    with subprocess.Popen(
        command, env=CLEAN_ENV | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if stop_at and stop_at in line:
                break
        process.kill()
    return "".join(lines)


def ask(*options: str, **environment: str) -> str:
    return said([*AITBC, *options, "list"], **environment)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "key"
    file.write_text("secret\n")
    return str(file)


def test_the_client_says_where_a_key_is_seen(key_file: str) -> None:
    assert ON_ARGV in ask("--coordinator", HERE, "--api-key", "secret")
    for quiet in (
        ask("--coordinator", HERE, "--api-key-file", key_file),
        ask("--coordinator", HERE, AITBC_API_KEY="secret"),
        ask("--coordinator", ELSEWHERE, "--tls", "--api-key-file", key_file),
        ask("--coordinator", ELSEWHERE),
    ):
        assert ON_ARGV not in quiet
        assert IN_CLEAR not in quiet
    assert IN_CLEAR in ask("--coordinator", ELSEWHERE, "--api-key-file", key_file)


def test_the_miner_says_where_a_key_is_seen(key_file: str, tmp_path: Path) -> None:
    miner = [*MINER, "--key-file", str(tmp_path / "own.pem"), "--coordinator"]
    assert ON_ARGV in said([*miner, HERE, "--api-key", "secret"], stop_at=ON_ARGV)
    exposed = said([*miner, ELSEWHERE, "--api-key-file", key_file], stop_at=IN_CLEAR)
    assert IN_CLEAR in exposed
    assert ON_ARGV not in exposed


@pytest.mark.parametrize(
    ("command", "tail"), [(AITBC, ["list"]), (MINER, [])], ids=["aitbc", "aitbc-miner"]
)
def test_a_file_without_a_key_is_named(command: list[str], tail: list[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for file, problem in ((empty, "is empty"), (tmp_path / "none", "cannot read it")):
        words = said([*command, "--api-key-file", str(file), *tail]).replace("│", " ").split()
        assert problem in " ".join(words)

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1.work_pb2 import GpuInfo, Welcome
from aitbc_miner.agent import Agent
from aitbc_miner.errors import Misconfigured
from aitbc_miner.signing import Signer, default_key_file, load_signer


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "key.pem"
    first = load_signer(file, "m")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_signer(file, "m").public_key == first.public_key
    assert [path.name for path in file.parent.iterdir()] == ["key.pem"]


@pytest.mark.parametrize(("told", "agreed"), [(0, 1), (1, 1), (2, 2), (9, 2)])
def test_statements_are_of_the_newest_version_that_the_coordinator_takes(
    told: int, agreed: int
) -> None:
    signer = Signer(Ed25519PrivateKey.generate(), "m")
    agent = Agent(
        miner_id="m",
        engines=[],
        slots=1,
        gpu_info=GpuInfo(),
        version="1",
        clock=lambda: 0.0,
        signer=signer,
    )
    agent.welcome(Welcome(statement_version=told))
    assert signer.version == agreed


def test_each_miner_has_a_file_in_the_directory_for_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_key_file("a:1") == tmp_path / "aitbc-miner" / "a:1.pem"
    assert load_signer(None, "a:1").public_key != load_signer(None, "b").public_key


def test_a_file_that_is_no_key_is_named_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("no key")
    with pytest.raises(Misconfigured, match=r"key\.pem.*--key-file"):
        load_signer(file, "m")


def test_a_place_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="--key-file"):
        load_signer(tmp_path / "file" / "key.pem", "m")


def test_a_user_without_a_home_is_told_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(Misconfigured, match="--key-file"):
        load_signer(None, "miner")

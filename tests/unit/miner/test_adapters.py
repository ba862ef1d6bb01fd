from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aitbc_miner.adapters import Adapter
from aitbc_miner.errors import Misconfigured
from tests.lora import write_adapter


def adapter(source: Path | str) -> Adapter:
    return Adapter(name="legal", source=str(source), model="m")


def test_a_directory_is_found_with_its_rank(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "legal", 1, rank=4)
    assert adapter(directory).is_local
    files = adapter(directory).locate()
    assert (files.directory, files.rank) == (directory, 4)


def test_the_rank_is_the_largest_of_any_module(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "legal", 1)
    rewrite(directory, rank_pattern={"q_proj": 64, "v_proj": 2})
    assert adapter(directory).locate().rank == 64


def test_the_users_directory_is_found_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = write_adapter(tmp_path / "legal", 1)
    assert adapter("~/legal").locate().directory == directory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "it is of the kind LOHA, not LORA"),
        ({"r": "many"}, "its adapter_config.json cannot be read"),
    ],
)
def test_what_vllm_cannot_run_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    directory = write_adapter(tmp_path / "legal", 1)
    rewrite(directory, **change)
    with pytest.raises(Misconfigured, match=f"--lora legal={directory}: {message}"):
        adapter(directory).locate()


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    directory = write_adapter(tmp_path / "legal", 1)
    (directory / missing).unlink()
    with pytest.raises(Misconfigured, match=f"--lora legal={directory}: it has no {missing}"):
        adapter(directory).locate()


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_weights_that_may_be_programs_are_refused(tmp_path: Path, name: str) -> None:
    directory = write_adapter(tmp_path / "legal", 1)
    (directory / "adapter_model.safetensors").rename(directory / name)
    with pytest.raises(Misconfigured, match=r"it has no adapter_model\.safetensors"):
        adapter(directory).locate()


def test_a_path_that_is_not_there_is_not_asked_of_hugging_face(tmp_path: Path) -> None:
    assert not adapter(tmp_path / "none").is_local
    with pytest.raises(Misconfigured, match="there is no such directory; give one with"):
        adapter(tmp_path / "none").locate()


def test_an_id_is_fetched_from_hugging_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "snapshot", 1)
    hub = ModuleType("huggingface_hub")

    def snapshot_download(source: str, *, revision: str, allow_patterns: list[str]) -> str:
        if source != "org/legal":
            raise OSError("401")
        assert revision == "v1.2"
        assert allow_patterns == ["adapter_config.json", "adapter_model.safetensors"]
        return str(tmp_path / "snapshot")

    hub.__dict__["snapshot_download"] = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert adapter("org/legal:v1.2").locate().directory == tmp_path / "snapshot"
    with pytest.raises(Misconfigured, match="Hugging Face does not give it: 401"):
        adapter("org/other:v1.2").locate()
    with pytest.raises(Misconfigured, match="org/legal:REVISION"):
        adapter("org/legal").locate()


def test_how_wide_its_model_is_shows_where_hidden_states_are_read(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "legal", 1)
    # What reads the states of the MLP does not tell.
    assert adapter(directory).locate().widths() == set()
    directory = write_adapter(tmp_path / "attention", 1, module="self_attn.q_proj")
    assert adapter(directory).locate().widths() == {576}


def rewrite(directory: Path, **changes: Any) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

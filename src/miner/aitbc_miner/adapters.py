"""Finds the LoRA adapters that `--lora NAME=SOURCE[@MODEL]` options ask for.

A source is a directory in PEFT's form, or a Hugging Face id.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc_miner.errors import Misconfigured

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
# Matrices that read hidden states: they are as wide as the model's.
_READS_HIDDEN_STATES = re.compile(r"\.(q|k|v|gate|up)_proj\.lora_A\.weight$")
_HUGGING_FACE_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


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
        if not any((directory / name).is_file() for name in _WEIGHTS):
            raise Misconfigured(f"{self}: it has no {_WEIGHTS[0]}")
        return AdapterFiles(directory.resolve(), self._rank(directory / _CONFIG))

    def _fetched(self) -> Path:
        if not _HUGGING_FACE_ID.fullmatch(self.source):
            raise Misconfigured(
                f"{self}: there is no such directory; give one with {_CONFIG} and {_WEIGHTS[0]}, or"
                " a Hugging Face id"
            )
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.source, allow_patterns=[_CONFIG, *_WEIGHTS]))
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

        file = self.directory / _WEIGHTS[0]
        if not file.is_file():
            return set()
        with safe_open(file, framework="numpy") as tensors:
            names = filter(_READS_HIDDEN_STATES.search, tensors.keys())
            return {tensors.get_slice(name).get_shape()[1] for name in names}

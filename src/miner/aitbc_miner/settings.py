"""What the command line and the environment say, checked."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from aitbc_miner.adapters import Adapter
from aitbc_miner.engines import ENGINES
from aitbc_miner.errors import Misconfigured
from aitbc_miner.tls import Tls

_MINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_ADDRESS = re.compile(r"(\[[^\]]+\]|[^:\s/]+):(\d{1,5})")
# Commas part the items of a list in the environment, but also stand inside JSON values.
_NEXT_OPTION = re.compile(r",(?=(?:[^\s,=\"]+:)?[A-Za-z_]\w*=)")
_MAX_SLOTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a miner is to run."""

    coordinator: str
    miner_id: str
    engine: str
    # Source of each model by the name under which it is served.
    models: dict[str, str]
    # None: what the engines hold.
    slots: int | None
    api_key: str | None = field(repr=False)
    engine_options: dict[str, str] = field(repr=False)
    adapters: tuple[Adapter, ...] = ()
    # None: plain text.
    tls: Tls | None = None
    # Where its signing key is kept; None: in the user's directory for state.
    key_file: Path | None = None
    # Holds the key that the miner had before, which endorses the one in `key_file`.
    previous_key_file: Path | None = None

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.coordinator):
            raise Misconfigured(
                f"--coordinator {self.coordinator}: give HOST:PORT, such as 127.0.0.1:50051"
            )
        if not _MINER_ID.fullmatch(self.miner_id):
            raise Misconfigured(
                f"--miner-id {self.miner_id}: give letters, digits, `.`, `_`, `:` and `-`, a letter"
                " or digit first, at most 128"
            )
        if self.engine not in ENGINES:
            raise Misconfigured(f"--engine {self.engine}: give one of {', '.join(ENGINES)}")
        if self.adapters and self.engine != "vllm":
            raise Misconfigured(
                f"--lora: the {self.engine} engine has no adapters, only vllm has. A server behind"
                " --engine openai serves its own as models: name them with --model"
            )
        if self.slots is not None and not 1 <= self.slots <= _MAX_SLOTS:
            raise Misconfigured(f"--slots {self.slots}: give a number from 1 to {_MAX_SLOTS:,}")

    @property
    def is_key_exposed(self) -> bool:
        """Whether the key leaves this machine unencrypted."""
        return bool(self.api_key) and self.tls is None and not _is_here(self.coordinator)


def read_key(key: str | None, file: Path | None) -> str | None:
    """Returns a key that is given, or the one in a file. Raises Misconfigured."""
    if file is None:
        return key
    if key is not None:
        raise Misconfigured("--api-key and --api-key-file: give one of them")
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"--api-key-file {file}: cannot read it: {error}") from error
    if not text:
        raise Misconfigured(f"--api-key-file {file}: it is empty")
    return text


def _is_here(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_models(items: Iterable[str]) -> dict[str, str]:
    """Reads NAME=SOURCE and NAME, which stands for NAME=NAME; items may hold several, by commas."""
    models: dict[str, str] = {}
    for item in (part for text in items for part in text.split(",") if part):
        name, has_source, source = item.partition("=")
        if not name or re.search(r"\s", name) or (has_source and not source):
            raise Misconfigured(
                f"--model {item}: give NAME or NAME=SOURCE, the name without spaces"
            )
        if name in models:
            raise Misconfigured(f"--model {name}: given twice; serve a model under one name once")
        models[name] = source or name
    if not models:
        raise Misconfigured(
            "--model: name at least one model, such as --model llama3.2=smollm2 (a small one that"
            " needs no GPU)"
        )
    return models


def parse_adapters(items: Iterable[str], models: Mapping[str, str]) -> tuple[Adapter, ...]:
    """Reads NAME=SOURCE@MODEL, and NAME=SOURCE where there is one model; items as for models."""
    adapters: dict[str, Adapter] = {}
    for item in (part for text in items for part in text.split(",") if part):
        name, _, source = item.partition("=")
        source, has_model, model = source.rpartition("@") if "@" in source else (source, "", "")
        if not name or re.search(r"\s", name) or not source:
            raise Misconfigured(
                f"--lora {item}: give NAME=SOURCE or NAME=SOURCE@MODEL, the name without spaces"
            )
        if name in models or name in adapters:
            raise Misconfigured(f"--lora {name}: another model or adapter has this name")
        if not has_model and len(models) > 1:
            raise Misconfigured(
                f"--lora {item}: say which model it changes: {item}@MODEL, one of"
                f" {', '.join(models)}"
            )
        if has_model and model not in models:
            raise Misconfigured(
                f"--lora {item}: no --model is named {model}; give one of {', '.join(models)} after"
                " the last @"
            )
        adapters[name] = Adapter(name=name, source=source, model=model or next(iter(models)))
    return tuple(adapters.values())


def parse_engine_options(items: Iterable[str]) -> dict[str, str]:
    """Reads KEY=VALUE items; an item may hold several, by commas."""
    options: dict[str, str] = {}
    for item in (part for text in items for part in _NEXT_OPTION.split(text)):
        key, is_pair, value = item.partition("=")
        if not is_pair or not key:
            raise Misconfigured(f"--engine-opt {item}: give KEY=VALUE")
        options[key] = value
    return options


def default_miner_id() -> str:
    """Returns an id made of the host's name, the same at each start."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("._-")
    return f"miner-{name}"[:128] if name else "miner"

"""Installs each client into an environment of its own, once for each set of versions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.processes import ROOT, VLLM_BIN

SCENARIOS = Path(__file__).parent / "scenarios"
_DIRECTORY = ROOT / ".venv-compat"
_CLIENTS = Path(__file__).parent / "clients.toml"


class NotInstalled(Exception):
    """A client could not be installed. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client as clients.toml has it."""

    name: str
    # With exact versions. None for one that comes with vLLM.
    packages: tuple[str, ...]
    # Script below scenarios/, with its arguments.
    script: tuple[str, ...]
    # Whether `make test` runs it.
    is_quick: bool

    @property
    def is_node(self) -> bool:
        """Whether it runs in Node."""
        return self.script[0].endswith(".mjs")

    @property
    def _place(self) -> Path:
        versions = hashlib.sha256("\n".join(self.packages).encode()).hexdigest()[:8]
        return _DIRECTORY / f"{self.name.lower().replace(' ', '-')}-{versions}"

    def install(self) -> None:
        """Installs it unless it is there. Raises NotInstalled."""
        done = self._place / "installed"
        if not self.packages or done.exists():
            return
        self._place.mkdir(parents=True, exist_ok=True)
        if self.is_node:
            _run(
                "npm", "install", "--prefix", self._place, "--no-audit", "--no-fund", *self.packages
            )
            for script in SCENARIOS.glob("*.mjs"):
                # Node looks for packages beside the script.
                (self._place / script.name).unlink(missing_ok=True)
        else:
            _run(os.environ.get("PYTHON", "python3"), "-m", "venv", self._place)
            pip = (self._place / "bin" / "pip", "--disable-pip-version-check")
            _run(*pip, "install", "--quiet", *self.packages)
        done.touch()

    def command(self) -> tuple[list[str | Path], Mapping[str, str]]:
        """Returns the command that runs its cases, and what it adds to the environment."""
        script, *arguments = self.script
        if self.is_node:
            for each in SCENARIOS.glob("*.mjs"):
                (self._place / each.name).write_bytes(each.read_bytes())
            binaries = self._place / "node_modules" / ".bin"
            return ["node", self._place / script], {"COMPAT_NODE_BIN": str(binaries)}
        python = self._place / "bin" / "python" if self.packages else VLLM_BIN / "python"
        return [python, SCENARIOS / script, *arguments], {}


def clients() -> tuple[Client, ...]:
    """Returns the clients in the order of clients.toml."""
    told = tomllib.loads(_CLIENTS.read_text())["client"]
    return tuple(
        Client(
            name=one["name"],
            packages=tuple(one["packages"]),
            script=tuple(one["script"].split()),
            is_quick=one.get("quick", False),
        )
        for one in told
    )


def _run(*argv: str | Path) -> None:
    done = subprocess.run([str(part) for part in argv], capture_output=True, text=True)
    if done.returncode:
        raise NotInstalled("\n".join((done.stderr or done.stdout).splitlines()[-5:]))

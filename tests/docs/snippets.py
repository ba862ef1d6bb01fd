"""Takes the code out of the documentation, so that tests run what readers paste."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from scripts.processes import ROOT, Coordinator

HTTP = "127.0.0.1:8080"
GRPC = "127.0.0.1:50051"


def pages() -> Iterable[Path]:
    """Returns every page of the documentation, and those at the root."""
    return [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "clients").glob("*.md"),
        *(ROOT / "clients").glob("*/*.md"),
    ]


def snippets(page: str, language: str) -> list[str]:
    """Returns the code blocks of a page in one language, those within lists too."""
    blocks = re.findall(
        rf"^( *)```{language}\n(.*?)^\1```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return [textwrap.dedent(code) for _, code in blocks]


def pointed_at(code: str, coordinator: Coordinator) -> str:
    """Returns the code with the default addresses replaced by a coordinator's."""
    return code.replace(HTTP, coordinator.http).replace(GRPC, coordinator.grpc)

"""The commands of docs/how-to/generate-stubs.md."""

from __future__ import annotations

import re

from scripts.processes import ROOT

PAGE = "docs/how-to/generate-stubs.md"


def commands() -> dict[str, str]:
    """Returns the whole command of each row of the table, by language."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / PAGE).read_text().splitlines()
        if line.startswith("| ")
    ]
    head = next(row for row in rows if row[0] == "language")
    [protoc] = re.findall(r"`(protoc .+?)`", head[1])
    return {row[0]: f"{protoc} {row[1].strip('`')}" for row in rows if row[1].startswith("`--")}

"""Keeps the outcomes, and writes of them the page of the docs.

results.json has the last outcomes of each client and each parameter, so that a run of some of them
leaves the others as they were.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.processes import ROOT, VLLM_BIN

from compat.environments import Client
from compat.matrix import Row
from compat.outcomes import Outcome, Verdict, verdict

# The cases of a client, each with its outcome here and with `vllm serve`.
Cases = dict[str, tuple[Outcome, Outcome]]

_PAGE = ROOT / "docs" / "reference" / "compatibility.md"
_RESULTS = Path(__file__).parent / "results.json"
_HEAD = """# Compatibility

<!-- `make compat` writes this page. -->

Other people's clients, unmodified, against the coordinator with a vLLM miner and against
`vllm serve` {vllm}, with the same model (SmolLM2-135M-Instruct) and arguments. Each client runs its
typical and its advanced use.

- *Same*: the client was told the same, word for word.
- *Other text*: both answered well, not word for word the same.
- *Here only*: it works here, and not with `vllm serve`.
- *Neither*: the client, or so small a model, gets there with neither server.
- *There only*: it works with `vllm serve`, and not here.

| client | versions | cases | same | other text | here only | neither | there only |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
_ORDER = (
    Verdict.SAME,
    Verdict.OTHER_TEXT,
    Verdict.BETTER,
    Verdict.NEITHER,
    Verdict.WORSE,
)


@dataclass(slots=True)
class Results:
    """The last outcomes of everything that was ever compared."""

    # By the clients' names.
    clients: dict[str, Cases] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls) -> Results:
        """Returns those that were kept."""
        if not _RESULTS.exists():
            return cls()
        told = json.loads(_RESULTS.read_text())
        clients: dict[str, Cases] = {
            name: {
                case: (Outcome(**pair["here"]), Outcome(**pair["vllm serve"]))
                for case, pair in cases.items()
            }
            for name, cases in told["clients"].items()
        }
        return cls(clients, [Row(**row) for row in told["rows"]])

    def keep(self) -> None:
        """Writes them."""
        clients = {
            name: {
                case: {"here": asdict(ours), "vllm serve": asdict(theirs)}
                for case, (ours, theirs) in cases.items()
            }
            for name, cases in self.clients.items()
        }
        told = {"clients": clients, "rows": [asdict(row) for row in self.rows]}
        _RESULTS.write_text(json.dumps(told, indent=1) + "\n")


def write(clients: Sequence[Client], results: Results) -> None:
    """Writes the page."""
    page = [_HEAD.format(vllm=_version())]
    for client in clients:
        versions = ", ".join(client.packages) or "vLLM's own"
        cases = results.clients.get(client.name)
        if cases is None:
            page.append(f"| {client.name} | {versions} | not run | | | | | |\n")
            continue
        counted = Counter(verdict(*pair) for pair in cases.values())
        cells = " | ".join(str(counted[kind] or "") for kind in _ORDER)
        page.append(f"| {client.name} | {versions} | {len(cases)} | {cells} |\n")
    page += ["\n## What differs\n\n", *_differences(clients, results)]
    page += ["\n## Parameters\n\n", *_parameters(results.rows)]
    _PAGE.write_text("".join(page))


def _differences(clients: Sequence[Client], results: Results) -> list[str]:
    lines = []
    for client in clients:
        for case, (ours, theirs) in results.clients.get(client.name, {}).items():
            found = verdict(ours, theirs)
            if found not in (Verdict.SAME, Verdict.OTHER_TEXT):
                words = (theirs if found is Verdict.BETTER else ours).told[:160].replace("`", "'")
                lines.append(f"- {client.name}, {case}: {found}. `{words}`\n")
    return lines or ["Nothing.\n"]


def _parameters(rows: Sequence[Row]) -> list[str]:
    same = sum(row.is_same for row in rows)
    lines = [
        f"Both answered {len(rows)} requests, each with one parameter as clients send it: {same}"
        " with the same status and the same words. The others:\n\n",
        "| request | here | `vllm serve` | why |\n| --- | --- | --- | --- |\n",
    ]
    for row in rows:
        if not row.is_same:
            why = row.reason or "**not explained**"
            if row.ours == row.theirs:
                why = f"Other words: {why}"
            lines.append(f"| {row.name.replace('|', '/')} | {row.ours} | {row.theirs} | {why} |\n")
    return lines


def _version() -> str:
    library = next(Path(VLLM_BIN.parent, "lib").glob("python3*/site-packages"))
    found = sorted(library.glob("vllm*.dist-info"))
    return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else ""

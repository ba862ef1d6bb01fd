"""Runs other people's clients, unmodified, against the coordinator and against `vllm serve`.

`make compat`: both serve the same model with the same arguments. Each client is installed in an
environment of its own. The outcomes are kept in compat/results.json, and become the page
docs/reference/compatibility.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from scripts.processes import VLLM_BIN
from scripts.vllm_serve import COORDINATOR, VLLM_SERVE, servers, weights

from compat import matrix, report
from compat.environments import Client, NotInstalled, clients
from compat.outcomes import Outcome, Verdict, outcomes, verdict

# Neither reads calls of tools by itself, and the model's own chat template has no place for tools.
_TEMPLATE = str(Path(__file__).parent / "chat_template.jinja")
_SERVE_OPTIONS = (
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "hermes",
    "--chat-template",
    _TEMPLATE,
)
_ENGINE_OPTIONS = ("tool_parser=hermes", f"chat_template={_TEMPLATE}")
# What Codex asks first does not fit into less.
_CONTEXT = 8192

console = Console()


def main() -> None:
    """Runs what was asked for. Exits with 1 when something works with `vllm serve` only."""
    arguments = _arguments()
    chosen = [client for client in clients() if _is_chosen(client, arguments)]
    ready = [client for client in chosen if _installed(client)]
    if arguments.install:
        sys.exit(len(ready) < len(chosen))
    is_part = bool(arguments.only or arguments.quick)
    results = report.Results.read()
    with (
        TemporaryDirectory(prefix="aitbc-compat-") as directory,
        servers(
            Path(directory),
            options=_SERVE_OPTIONS,
            engine_options=_ENGINE_OPTIONS,
            context=_CONTEXT,
        ) as at,
    ):
        tokenizer = weights()
        for client in ready:
            results.clients[client.name] = _compare(client, at, tokenizer)
            # What was found out is kept, whatever becomes of the rest.
            results.keep()
        if not is_part:
            results.rows = matrix.compare(at[COORDINATOR], at[VLLM_SERVE])
    results.keep()
    report.write(clients(), results)
    worse = [
        f"{name}: {case}"
        for name, cases in results.clients.items()
        for case, (ours, theirs) in cases.items()
        if verdict(ours, theirs) is Verdict.WORSE
    ]
    for row in results.rows:
        if row.is_unexplained:
            console.print(f"{row.name}: here {row.ours}, vllm serve {row.theirs}", markup=False)
            if row.ours == row.theirs or row.error:
                console.print(f"    {row.error or (row.our_text, row.their_text)}", markup=False)
    worse += [row.name for row in results.rows if row.is_unexplained]
    for line in worse:
        console.print(f"works with vllm serve only: {line}", style="red", markup=False)
    sys.exit(bool(worse))


def _is_chosen(client: Client, arguments: argparse.Namespace) -> bool:
    if arguments.matrix or (arguments.quick and not client.is_quick):
        return False
    return not arguments.only or client.name in arguments.only


def _installed(client: Client) -> bool:
    try:
        with console.status(f"installing {client.name}"):
            client.install()
    except NotInstalled as error:
        console.print(f"{client.name} cannot be installed: {error}", style="yellow", markup=False)
        return False
    return True


def _compare(client: Client, at: dict[str, str], tokenizer: str) -> report.Cases:
    with console.status(client.name):
        ours, theirs = (outcomes(client, at[name], tokenizer) for name in (COORDINATOR, VLLM_SERVE))
    missing = Outcome(False, "was not tried")
    cases = {
        name: (ours.get(name, missing), theirs.get(name, missing)) for name in {**ours, **theirs}
    }
    for name, pair in cases.items():
        found = verdict(*pair)
        console.print(f"{client.name}: {name}: {found}", markup=False, highlight=False)
        if found is not Verdict.SAME:
            for server, outcome in zip((COORDINATOR, VLLM_SERVE), pair, strict=True):
                console.print(f"    {server}: {json.dumps(outcome.told)}", markup=False)
    return cases


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make compat", description=__doc__)
    parser.add_argument("--only", action="append", help="this client alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="those that `make test` runs")
    parser.add_argument("--matrix", action="store_true", help="the parameters, and no client")
    parser.add_argument("--install", action="store_true", help="install them, and no more")
    return parser.parse_args()


if __name__ == "__main__":
    if not VLLM_BIN.exists():
        sys.exit("no .venv-vllm: run `make vllm`")
    main()

"""The coordinator beside the same engine without it: `vllm serve` on the same machine.

`python -m benchmarks.beside_vllm`: both serve the same model with the same arguments. Rounds take
turns, so that whatever else the machine does falls on both; the client, its requests and the API
(OpenAI's, streaming) are the same, and greedy sampling makes the work the same, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson
import uvloop
from rich.console import Console
from rich.table import Table
from scripts.processes import VLLM_BIN
from scripts.vllm_serve import servers

from benchmarks.report import environment
from benchmarks.shape import MODEL

_SUBJECTS = ("the sea", "a clock", "winter", "bread", "maps", "glass", "rivers", "music")

console = Console()


@dataclass
class Round:
    """What one round of requests to one server took."""

    tokens: int = 0
    seconds: float = 0.0
    first_ms: list[float] = field(default_factory=list)
    # Times to the first token of requests that come one by one.
    alone_ms: list[float] = field(default_factory=list)


async def take(base: str, arguments: argparse.Namespace, number: int) -> Round:
    """Sends the requests of one round: some one by one, and then all a few at a time."""
    taken = Round()
    waiting = iter(range(arguments.requests))
    async with httpx.AsyncClient(base_url=base, timeout=300) as client:
        for index in range(arguments.alone):
            # Short, because only their first token is of interest.
            first_ms, _ = await _request(client, f"{number}.alone.{index}", index, tokens=2)
            taken.alone_ms.append(first_ms)

        async def work() -> None:
            for index in waiting:
                name = f"{number}.{index}"
                first_ms, tokens = await _request(client, name, index, tokens=arguments.tokens)
                taken.first_ms.append(first_ms)
                taken.tokens += tokens

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(arguments.concurrency)))
        taken.seconds = time.perf_counter() - began
    return taken


async def _request(
    client: httpx.AsyncClient, name: str, index: int, *, tokens: int
) -> tuple[float, int]:
    """Returns the time to the first token in milliseconds, and the tokens of the answer."""
    # No two requests of a round begin alike, and both servers are asked the same.
    prompt = f"{name}: tell a story about {_SUBJECTS[index % len(_SUBJECTS)]}."
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first_ms, said = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = orjson.loads(line[6:])
            if not first_ms and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first_ms = (time.perf_counter() - began) * 1000
            if chunk.get("usage"):
                said = chunk["usage"]["completion_tokens"]
    return first_ms, said


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    rounds: dict[str, list[Round]] = {"vllm serve": [], "coordinator": []}
    with TemporaryDirectory(prefix="aitbc-bench-") as directory, servers(Path(directory)) as at:
        for number in range(arguments.rounds + 1):
            # In turns, so that neither is always the one that follows the other's work.
            order = list(at.items()) if number % 2 else list(reversed(at.items()))
            for name, base in order:
                with console.status(f"round {number} of {arguments.rounds}: {name}"):
                    taken = uvloop.run(take(base, arguments, number))
                # The first round only warms up.
                if number:
                    rounds[name].append(taken)
    figures = {name: _figures(taken) for name, taken in rounds.items()}
    direct, ours = figures["vllm serve"], figures["coordinator"]
    title = f"first token, {arguments.concurrency} at once"
    table = Table("", "tokens/s", title, "first token, one by one")
    for name, told in figures.items():
        table.add_row(
            name,
            f"{told['tokens_per_second']:.1f}",
            f"{told['first_ms']:.1f} ms",
            f"{told['alone_ms']:.1f} ms",
        )
    # Round by round, because the machine is not the same at all times.
    pairs = list(zip(rounds["coordinator"], rounds["vllm serve"], strict=True))
    share = statistics.median((a.tokens / a.seconds) / (b.tokens / b.seconds) for a, b in pairs)
    added = {name: ours[name] - direct[name] for name in ("first_ms", "alone_ms")}
    table.add_row(
        "coordinator beside",
        f"{share:.1%}",
        f"{added['first_ms']:+.1f} ms",
        f"{added['alone_ms']:+.1f} ms",
    )
    console.print(table)
    report = {
        **environment(),
        "arguments": vars(arguments),
        "figures": figures,
        "share": share,
        "added_ms": added,
        "rounds": {name: [vars(one) for one in taken] for name, taken in rounds.items()},
    }
    if arguments.keep:
        Path(arguments.keep).write_text(json.dumps(report, indent=2) + "\n")


def _figures(rounds: list[Round]) -> dict[str, float]:
    first = [one for taken in rounds for one in taken.first_ms]
    return {
        "tokens_per_second": statistics.median(one.tokens / one.seconds for one in rounds),
        "first_ms": statistics.median(first),
        "alone_ms": statistics.median(one for taken in rounds for one in taken.alone_ms),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-vllm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="rounds that count [%(default)s]")
    parser.add_argument("--concurrency", type=int, default=8, help="at once [%(default)s]")
    parser.add_argument("--requests", type=int, default=24, help="of a round [%(default)s]")
    parser.add_argument("--alone", type=int, default=12, help="one by one [%(default)s]")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer [%(default)s]")
    parser.add_argument("--keep", help="file for the figures, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    if not VLLM_BIN.exists():
        sys.exit("no .venv-vllm: run `make vllm`")
    main()

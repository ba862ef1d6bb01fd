"""Starts the project's own programs, waits until they are ready, and stops them.

`make run`, the end-to-end tests and the benchmarks all start real processes through this module.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
VLLM_BIN = ROOT / ".venv-vllm" / "bin"

# What a coordinator prints when it serves.
READY = re.compile(r"aitbc-coordinator ready http=(?P<http>\S+) grpc=(?P<grpc>\S+)")


class ProgramFailed(Exception):
    """A program ended or stayed silent before it was ready. The text ends with its last output."""


class Program:
    """A running process whose output is kept in a log file and can be waited for."""

    def __init__(
        self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path = ROOT
    ) -> None:
        self.name = log.stem
        self.log = log
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._output_ended = False
        # A session of its own: Ctrl-C in the terminal reaches only the parent, which then stops its
        # programs in order.
        self._process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**env, "PYTHONUNBUFFERED": "1"},
            cwd=cwd,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"read {self.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How the process ended, None while it runs."""
        return self._process.poll()

    def line_count(self) -> int:
        """Returns how many lines were printed so far, to wait for something that comes after."""
        with self._changed:
            return len(self._lines)

    def wait_for_line(
        self, pattern: str | re.Pattern[str], *, timeout_s: float, after: int = 0
    ) -> re.Match[str]:
        """Returns the first match beyond the given number of lines, as soon as there is one.

        Raises ProgramFailed when the output ends or the time is over before.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if match := re.search(pattern, line):
                        return match
                after = max(after, len(self._lines))
                if self._output_ended:
                    raise ProgramFailed(f"{self.name} ended. Its last output:\n{self.tail()}")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise ProgramFailed(
                        f"{self.name} was not ready after {timeout_s:.0f} s. "
                        f"Its last output:\n{self.tail()}"
                    )

    def tail(self, lines: int = 30) -> str:
        """Returns the end of the output."""
        with self._changed:
            return "\n".join(self._lines[-lines:])

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self, *, timeout_s: float) -> int:
        """Returns the exit status. Raises TimeoutError."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s:.0f} s") from None
        self._reader.join(timeout_s)
        return status

    def terminate(self, *, timeout_s: float = 30) -> int:
        """Asks the process to finish, and returns its exit status."""
        self.send(signal.SIGTERM)
        return self.wait(timeout_s=timeout_s)

    def kill(self) -> None:
        """Ends the process at once, as a crash would. Does nothing when it has ended."""
        self._process.kill()
        self.wait(timeout_s=30)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is piped
        with self._process.stdout as output, self.log.open("ab", buffering=0) as log:
            for raw in output:
                log.write(raw)
                with self._changed:
                    self._lines.append(raw.decode(errors="replace").rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._output_ended = True
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """A coordinator that serves."""

    program: Program
    # HOST:PORT of each.
    http: str
    grpc: str
    data: Path

    @property
    def url(self) -> str:
        """Base URL of the REST API."""
        return f"http://{self.http}"


def start_coordinator(
    *,
    data: Path,
    log: Path,
    http: str = "127.0.0.1:0",
    grpc: str = "127.0.0.1:0",
    options: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    timeout_s: float = 30,
    command: Sequence[str | Path] = (BIN / "aitbc-coordinator",),
) -> Coordinator:
    """Returns a coordinator that is ready; port 0 takes a free one. Raises ProgramFailed."""
    argv: list[str | Path] = [*command, "serve", "--data", data]
    argv += ["--http", http, "--grpc", grpc, *options]
    program = Program(argv, log=log, env=env)
    try:
        ready = program.wait_for_line(READY, timeout_s=timeout_s)
    except ProgramFailed:
        program.kill()
        raise
    return Coordinator(program=program, http=ready["http"], grpc=ready["grpc"], data=data)


def start_miner(
    coordinator: str,
    *,
    miner_id: str,
    log: Path,
    engine: str = "echo",
    models: Sequence[str] = ("llama3.2",),
    slots: int | None = None,
    options: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    command: Sequence[str | Path] = (),
) -> Program:
    """Returns a miner that is starting: jobs wait for it, so nobody else has to."""
    commands = VLLM_BIN if engine == "vllm" else BIN
    argv: list[str | Path] = [*(command or (commands / "aitbc-miner",))]
    argv += ["run", "--coordinator", coordinator]
    argv += ["--miner-id", miner_id, "--engine", engine]
    for model in models:
        argv += ["--model", model]
    if slots is not None:
        argv += ["--slots", str(slots)]
    return Program([*argv, *options], log=log, env=env)

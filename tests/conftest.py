"""Starts real processes for the tests that need them, and shows their output when a test fails."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import httpx
import hypothesis
import pytest
from scripts.processes import BIN, VLLM_BIN, Coordinator, Program, start_coordinator, start_miner

from tests.lora import write_adapter

# A developer's own settings must not reach the programs under test.
CLEAN_ENV = {name: value for name, value in os.environ.items() if not name.startswith("AITBC_")}

# Served beside the model by the miner that runs vLLM.
ADAPTER = "legal"

_running: list[Program] = []

# How long an example takes is the machine's affair, and no test's.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what a developer may ask of the tests."""
    parser.addoption(
        "--screenshots", action="store_true", help="write the pictures of the documentation again"
    )


class Launcher:
    """Starts coordinators and miners below one directory, and kills what is left at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._programs: list[Program] = []

    def coordinator(self, *options: str, env: Mapping[str, str] = CLEAN_ENV) -> Coordinator:
        """Returns a new coordinator on free ports with an empty database."""
        name = f"coordinator-{uuid4().hex[:8]}"
        return self._start(self.directory / name, "127.0.0.1:0", "127.0.0.1:0", options, env)

    def coordinator_on(self, data: Path, *options: str) -> Coordinator:
        """Returns a new coordinator on free ports with its data in this directory."""
        return self._start(data, "127.0.0.1:0", "127.0.0.1:0", options, CLEAN_ENV)

    def again(
        self, before: Coordinator, *options: str, env: Mapping[str, str] = CLEAN_ENV
    ) -> Coordinator:
        """Starts a coordinator that ended on the same data and the same ports."""
        return self._start(before.data, before.http, before.grpc, options, env)

    def miner(
        self,
        coordinator: Coordinator,
        *options: str,
        miner_id: str = "echo",
        engine: str = "echo",
        models: Sequence[str] = ("llama3.2",),
        slots: int | None = None,
    ) -> Program:
        """Returns a miner that is starting."""
        program = start_miner(
            coordinator.grpc,
            miner_id=miner_id,
            log=self.directory / f"miner-{miner_id}.log",
            engine=engine,
            models=models,
            slots=slots,
            options=options,
            # Keys of miners end with the test.
            env={**CLEAN_ENV, "XDG_STATE_HOME": str(self.directory / "state")},
        )
        return self.own(program)

    def unsure_coordinator_on(self, data: Path) -> Program:
        """Returns a coordinator that may not come to serve what is in this directory."""
        argv: list[str | Path] = [BIN / "aitbc-coordinator", "serve", "--data", data]
        ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
        return self.own(Program([*argv, *ports], log=_log_of(data), env=CLEAN_ENV))

    def own(self, program: Program) -> Program:
        """Takes over a program, to kill it at the end and show its output after a failure."""
        self._programs.append(program)
        _running.append(program)
        return program

    def close(self) -> None:
        """Kills what still runs."""
        for program in self._programs:
            program.kill()
            _running.remove(program)

    def _start(
        self, data: Path, http: str, grpc: str, options: Sequence[str], env: Mapping[str, str]
    ) -> Coordinator:
        coordinator = start_coordinator(
            data=data, http=http, grpc=grpc, options=options, env=env, log=_log_of(data)
        )
        self.own(coordinator.program)
        return coordinator


def _log_of(data: Path) -> Path:
    return data.with_suffix(".log")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the last output of every running program to the report of a failure."""
    report = yield
    if report.failed:
        report.sections += [(f"output of {one.name}", one.tail()) for one in _running]
    return report


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Starts programs that end with the test."""
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """A coordinator that tests share, with an echo miner that serves `llama3.2`."""
    launcher = Launcher(tmp_path_factory.mktemp("shared"))
    coordinator = launcher.coordinator()
    launcher.miner(coordinator, miner_id="shared-echo")
    yield coordinator
    launcher.close()


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """A coordinator that tests share, whose one miner runs the real model and an adapter of it."""
    if not VLLM_BIN.exists() and "CI" not in os.environ:
        pytest.skip("no .venv-vllm: run `make vllm`")
    directory = tmp_path_factory.mktemp("vllm")
    launcher = Launcher(directory)
    coordinator = launcher.coordinator()
    # 4 slots, because the memory for more would take longer to set up than the tests.
    miner = launcher.miner(
        coordinator,
        "--engine-opt",
        "tool_parser=hermes",
        "--lora",
        f"{ADAPTER}={write_adapter(directory / ADAPTER, seed=1)}",
        miner_id="vllm",
        engine="vllm",
        models=["llama3.2=smollm2"],
        slots=4,
    )
    # The first start downloads the model; jobs would wait, but clients that list models do not.
    miner.wait_for_line("miner vllm ready", timeout_s=500)
    yield coordinator
    launcher.close()


@pytest.fixture
def api(coordinator: Coordinator) -> Iterator[httpx.Client]:
    """The REST API of the shared coordinator. Its time-out leaves room for a long poll."""
    with httpx.Client(base_url=coordinator.url, timeout=70) as client:
        yield client


@pytest.fixture
def model() -> str:
    """Name of a model that no other test uses, and that no miner serves until the test has one."""
    return f"model-{uuid4().hex[:8]}"

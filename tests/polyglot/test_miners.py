"""The miner of each language keeps its jobs over the coordinator's deaths, and signs them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest
from scripts.processes import BIN, Coordinator, Program

from aitbc_client import AsyncClient, EventType, Job, JobStatus
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key
from tests.polyglot.built import command

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(600)]

PATIENCE_S = 120
JOBS = 100
MODEL = "llama3.2"
LANGUAGES = ["go", "typescript"]
# A receipt does not wait for its block.
SETTINGS = {**CLEAN_ENV, "AITBC_AUTH": "required", "AITBC_LEDGER_BLOCK_RECEIPTS": "1"}
# What is read of all streams between one death of the coordinator and the next.
DELTAS = 300


def _prompt(number: int) -> str:
    return f"{number}: " + " ".join(["Grüße aus 東京 🙂"] * (100 + number % 7))


class Readers:
    """Submits jobs and reads their streams."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._deltas = 0
        self._begun = 0
        self._changed = asyncio.Condition()

    async def run(self, number: int) -> tuple[Job, str]:
        """Returns a job at its end, and what its stream said of it."""
        job_id = (await self._client.submit(_prompt(number), model=MODEL)).job_id
        text = ""
        async for event in self._client.stream(job_id):
            assert event.type is not EventType.RESTARTED
            text += event.text or ""
            if event.type is EventType.DELTA:
                async with self._changed:
                    self._begun += text == event.text
                    self._deltas += 1
                    self._changed.notify_all()
        return await self._client.get(job_id), text

    async def have_begun(self) -> None:
        """Returns when all streams have: no lease is on its way to the miner then."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._begun == JOBS)

    async def reads_on(self, deltas: int) -> None:
        """Returns after some more deltas."""
        until = self._deltas + deltas
        async with self._changed:
            await self._changed.wait_for(lambda: self._deltas >= until)


class Stage:
    """A coordinator with keys, and a miner of some language."""

    def __init__(self, launcher: Launcher, language: str, directory: Path) -> None:
        self._argv = command(language, "miner")
        self._directory = directory
        self._launcher = launcher
        self.coordinator: Coordinator = launcher.coordinator(env=SETTINGS)
        self.key = create_key(self.coordinator.data, "client")
        self._miner_key = create_key(self.coordinator.data, "miner")
        self.miner = self.start_miner("miner")

    def start_miner(self, name: str) -> Program:
        """Returns a process of the miner, which is always the same one to the coordinator."""
        env = {"AITBC_COORDINATOR": self.coordinator.grpc, "AITBC_API_KEY": self._miner_key}
        log = self._directory / f"{name}.log"
        program = Program(self._argv, log=log, env=CLEAN_ENV | env, cwd=self._directory)
        return self._launcher.own(program)

    def kill(self) -> None:
        """Kills the coordinator and starts it again."""
        self.coordinator.program.kill()
        self.coordinator = self._launcher.again(self.coordinator, env=SETTINGS)

    def verify(self, job: Job) -> str:
        """Returns what `aitbc verify` prints of a job's receipt, which must hold."""
        env = {"AITBC_COORDINATOR": self.coordinator.grpc, "AITBC_API_KEY": self.key}
        done = subprocess.run(
            [BIN / "aitbc", "verify", job.job_id],
            env=CLEAN_ENV | env | {"XDG_STATE_HOME": str(self.coordinator.data)},
            text=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.mark.parametrize("language", LANGUAGES)
async def test_miner_outlives_the_coordinator(
    language: str, launcher: Launcher, tmp_path: Path
) -> None:
    stage = Stage(launcher, language, tmp_path)
    async with AsyncClient(stage.coordinator.grpc, api_key=stage.key) as client:
        readers = Readers(client)
        running = [asyncio.create_task(readers.run(number)) for number in range(JOBS)]
        await readers.have_begun()
        await asyncio.to_thread(stage.kill)
        await readers.reads_on(DELTAS)
        await asyncio.to_thread(stage.kill)
        done = await asyncio.wait_for(asyncio.gather(*running), PATIENCE_S)

        for number, (job, text) in enumerate(done):
            assert text == job.result == _prompt(number)
            assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)
        assert "miner_signature: it holds" in await asyncio.to_thread(stage.verify, done[0][0])

        # It is told to stop while it works, and finishes.
        last = asyncio.create_task(readers.run(JOBS))
        await readers.reads_on(1)
        stage.miner.send(signal.SIGTERM)
        job, text = await asyncio.wait_for(last, PATIENCE_S)
    assert text == job.result == _prompt(JOBS)
    assert stage.miner.wait(timeout_s=PATIENCE_S) == 0


@pytest.mark.parametrize("language", LANGUAGES)
async def test_miner_stops_what_is_not_wanted(
    language: str, launcher: Launcher, tmp_path: Path
) -> None:
    stage = Stage(launcher, language, tmp_path)
    async with AsyncClient(stage.coordinator.grpc, api_key=stage.key) as client:
        readers = Readers(client)
        job_id = (await client.submit("word " * 10_000, model=MODEL)).job_id
        async for event in client.stream(job_id):
            if event.type is EventType.DELTA:
                break
        await client.cancel(job_id)
        job = await client.wait(job_id, PATIENCE_S)
        assert job.status is JobStatus.CANCELLED

        newer = stage.start_miner("newer")
        # The coordinator tells the older one, and gives this one what comes next.
        assert await asyncio.to_thread(stage.miner.wait, timeout_s=PATIENCE_S) == 1
        stage.miner.wait_for_line("another process works under this miner id", timeout_s=0)
        job, text = await asyncio.wait_for(readers.run(0), PATIENCE_S)
    assert text == job.result == _prompt(0)
    assert newer.exit_status is None

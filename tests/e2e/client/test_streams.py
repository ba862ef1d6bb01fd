"""Streams of the package and of the command, against a real coordinator."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager

import pytest
from scripts.processes import Coordinator

from aitbc_client import AsyncClient, Client, EventType, JobStatus, NotFound
from tests.conftest import CLEAN_ENV, Launcher

_SLOW = ("--engine-opt", "tokens=40", "--engine-opt", "tokens_per_second=40")
_WITHOUT_END = ("--engine-opt", "tokens=100000", "--engine-opt", "tokens_per_second=50")


def test_what_is_streamed_is_the_result(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client:
        submitted = client.submit("naïve 🙂 text", model="llama3.2")
        events = list(client.stream(submitted.job_id))
        assert "".join(event.text for event in events) == "naïve 🙂 text"
        assert events[-1].type is EventType.FINAL
        assert events[-1].job is not None
        assert events[-1].job.status is JobStatus.COMPLETED
        # Whoever has the end is told nothing more, and any place in between may be taken up.
        assert list(client.stream(submitted.job_id, events[-1].event_id)) == []
        for place, event in enumerate(events):
            rest = list(client.stream(submitted.job_id, event.event_id))
            assert "".join(one.text for one in rest) == "".join(
                one.text for one in events[place + 1 :]
            )


def test_the_stream_of_an_unknown_job_is_refused(coordinator: Coordinator) -> None:
    with Client(coordinator.grpc) as client, pytest.raises(NotFound):
        next(client.stream("job-nope"))


def test_a_stream_outlives_a_restart_of_the_coordinator(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    launcher.miner(coordinator, *_SLOW)
    with Client(coordinator.grpc) as client, ThreadPoolExecutor(1) as threads:
        submitted = client.submit("a b", model="llama3.2")
        stream = client.stream(submitted.job_id)
        texts = [next(event.text for event in stream if event.text)]
        rest = threads.submit(lambda: [event.text for event in stream])
        coordinator.program.kill()
        launcher.again(coordinator)
        texts += rest.result(90)
        assert "".join(texts) == client.get(submitted.job_id).result


async def test_the_client_for_asyncio_streams_too(coordinator: Coordinator) -> None:
    async with AsyncClient(coordinator.grpc) as client:
        submitted = await client.submit("so it is", model="llama3.2")
        async with aclosing(client.stream(submitted.job_id)) as stream:
            events = [event async for event in stream]
        assert "".join(event.text for event in events) == "so it is"
        assert events[-1].type is EventType.FINAL
        with pytest.raises(NotFound):
            await anext(client.stream("job-nope"))


def test_the_command_prints_an_answer_as_it_is_made(coordinator: Coordinator) -> None:
    words = [sys.executable, "-m", "aitbc_client.cli"]
    env = CLEAN_ENV | {"AITBC_COORDINATOR": coordinator.grpc, "AITBC_MODEL": "llama3.2"}
    submitted = subprocess.check_output(
        [*words, "submit", "--stream", "so [it] is 🙂"], env=env, text=True
    )
    assert submitted == "so [it] is 🙂\n"
    listed = subprocess.check_output([*words, "list", "--json", "--limit", "1"], env=env)
    job_id = json.loads(listed)["job_id"]
    events = subprocess.check_output([*words, "stream", job_id, "--json"], env=env, text=True)
    types = [json.loads(line)["type"] for line in events.splitlines()]
    assert types == ["delta", "final"]


def test_a_conversation_in_a_terminal(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    launcher.miner(coordinator)
    with _chat(coordinator) as terminal:
        terminal.type(b"hello\n")
        terminal.until(b"hello\r\n> ")
        terminal.type(b"/help\n")
        terminal.until(b"/reset forgets")
        terminal.type(b"/exit\n")
    with Client(coordinator.grpc) as client:
        [job] = client.jobs()
        assert job.status is JobStatus.COMPLETED


def test_what_is_thought_is_dimmed_before_the_answer(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    launcher.miner(coordinator, "--engine-opt", "reasoning=2")
    with _chat(coordinator) as terminal:
        terminal.type(b"hello\n")
        terminal.until(b"\x1b[2mhm let\x1b[0m\r\nhello\r\n> ")
        terminal.type(b"/exit\n")


def test_ctrl_c_stops_an_answer_and_not_the_conversation(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    launcher.miner(coordinator, *_WITHOUT_END)
    with _chat(coordinator) as terminal:
        terminal.type(b"say\n")
        terminal.until(b"say say")
        terminal.program.send_signal(signal.SIGINT)
        terminal.until(b"stopped")
        terminal.until(b"> ")
        terminal.type(b"\x04")
    with Client(coordinator.grpc) as client:
        [job] = client.jobs()
        assert job.status is JobStatus.CANCELLED


class _Terminal:
    """`aitbc chat` on a terminal of its own."""

    def __init__(self, coordinator: Coordinator) -> None:
        ours, theirs = pty.openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-m", "aitbc_client.cli", "chat", "-m", "llama3.2"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=CLEAN_ENV | {"AITBC_COORDINATOR": coordinator.grpc, "TERM": "dumb"},
        )
        os.close(theirs)
        self._screen = os.fdopen(ours, "r+b", buffering=0)
        self._unread = b""

    def type(self, keys: bytes) -> None:
        """Types at the prompt."""
        self._screen.write(keys)

    def until(self, expected: bytes) -> None:
        """Reads until this was printed, after what was read before."""
        while expected not in self._unread:
            self._unread += self._screen.read(1024)
        self._unread = self._unread.partition(expected)[2]

    def close(self) -> None:
        """Kills the program if it still runs."""
        self.program.kill()
        self.program.wait()
        self._screen.close()


@contextmanager
def _chat(coordinator: Coordinator) -> Iterator[_Terminal]:
    terminal = _Terminal(coordinator)
    try:
        terminal.until(b"> ")
        yield terminal
        assert terminal.program.wait(60) == 0
    finally:
        terminal.close()

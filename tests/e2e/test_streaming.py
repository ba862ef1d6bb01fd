"""Readers of streams through crashes of everything between them and the engine."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from scripts.processes import Coordinator

from tests.conftest import Launcher
from tests.e2e.jobs import get, submit

# Every kind of character, so that any cut between bytes would show.
WORDS = 'alpha βήτα гамма 漢字 🙂 👩‍👩‍👧 🇦🇹 e\u0301 … „ende“ \\ " \t tab'
TOKENS = 150
DEADLINE_S = 150
STREAMED = (
    "--engine-opt",
    f"tokens={TOKENS}",
    "--engine-opt",
    "tokens_per_second=75",
)


class Reader(threading.Thread):
    """Follows one job until its end, coming back with the id of the last event that it has."""

    def __init__(self, url: Callable[[], str], job_id: str, patience: random.Random | None) -> None:
        super().__init__(daemon=True)
        self.text = ""
        self.names: list[str] = []
        self.connections = 0
        self.final: dict[str, Any] = {}
        self._url, self._job_id = url, job_id
        # A reader without patience leaves after a few events, again and again.
        self._patience = patience
        self._last_id = ""

    def run(self) -> None:
        """Reads until the final event."""
        end = time.monotonic() + DEADLINE_S
        while not self.final and time.monotonic() < end:
            try:
                self._connect()
            except httpx.HTTPError:
                time.sleep(0.02)  # the coordinator is away

    def _connect(self) -> None:
        headers = {"last-event-id": self._last_id} if self._last_id else {}
        url = f"{self._url()}/v1/jobs/{self._job_id}/stream"
        leave_after = self._patience.randint(1, 6) if self._patience else 10**6
        self.connections += 1
        with httpx.stream("GET", url, headers=headers, timeout=DEADLINE_S) as response:
            if response.status_code == 503:
                time.sleep(0.02)
                return
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line.startswith(":"):
                    continue
                if line:
                    key, _, value = line.partition(": ")
                    fields[key] = value
                    continue
                self._take(fields)
                fields = {}
                leave_after -= 1
                if not leave_after:
                    return

    def _take(self, fields: dict[str, str]) -> None:
        name, data = fields["event"], json.loads(fields["data"])
        self.names.append(name)
        if name == "error":
            return
        self._last_id = fields["id"]
        if name == "restarted":
            self.text = ""
        self.text += data.get("text", "")
        assert data.get("offset", 0) == len(self.text.encode())
        if name == "final":
            self.final = data["job"]


def readers_of(url: Callable[[], str], job_id: str) -> list[Reader]:
    """Returns a reader that stays and two that come and go, all of them reading."""
    readers = [Reader(url, job_id, None)]
    readers += [Reader(url, job_id, random.Random(seed)) for seed in (1, 2)]
    for reader in readers:
        reader.start()
    return readers


def has_begun(reader: Reader, characters: int) -> None:
    """Waits until a reader has some of the text."""
    end = time.monotonic() + DEADLINE_S
    while len(reader.text) < characters:
        assert time.monotonic() < end, "nothing is streamed"
        time.sleep(0.005)


def assert_all_read(api: httpx.Client, job_id: str, readers: list[Reader]) -> None:
    """Asserts that each reader has the result, byte for byte."""
    for reader in readers:
        reader.join(DEADLINE_S)
        assert reader.final["status"] == "completed", reader.final
    result = get(api, job_id)["result"]
    assert len(result.split()) == TOKENS
    assert [reader.text == result for reader in readers] == [True] * len(readers)


def test_streams_go_on_over_a_killed_coordinator(launcher: Launcher) -> None:
    serving: list[Coordinator] = [launcher.coordinator()]
    launcher.miner(serving[0], *STREAMED)
    with httpx.Client(base_url=serving[0].url, timeout=70) as api:
        job_id = submit(api, prompt=WORDS)
        readers = readers_of(lambda: serving[-1].url, job_id)
        for characters in (20, 200):
            has_begun(readers[0], characters)
            serving[-1].program.kill()
            serving.append(launcher.again(serving[-1]))
        assert_all_read(api, job_id, readers)
    assert all("restarted" not in reader.names for reader in readers)
    assert all(reader.connections > 2 for reader in readers[1:])


def test_the_next_miner_goes_on_with_the_answer(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    doomed = launcher.miner(coordinator, *STREAMED, miner_id="doomed")
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        job_id = submit(api, prompt=WORDS)
        readers = readers_of(lambda: coordinator.url, job_id)
        has_begun(readers[0], 100)
        doomed.kill()
        # It comes back under its name without what it held, which is given to another at once.
        launcher.miner(coordinator, *STREAMED, miner_id="heir")
        launcher.miner(coordinator, *STREAMED, miner_id="doomed")
        assert_all_read(api, job_id, readers)
        job = get(api, job_id)
    assert (job["attempt"], job["usage"]["completion_tokens"]) == (2, TOKENS)
    assert all("restarted" not in reader.names for reader in readers)

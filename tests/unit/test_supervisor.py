"""Tasks go on, whatever breaks them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from aitbc_server import supervisor as module
from aitbc_server.supervisor import Supervisor, end


class Work:
    """Does in each round what stands for it; the last one lasts."""

    def __init__(self, *rounds: BaseException | None) -> None:
        self._rounds: Iterator[BaseException | None] = iter(rounds)
        self.begun = 0
        self.lasts = asyncio.Event()
        self.is_closed = False

    async def __call__(self) -> None:
        self.begun += 1
        try:
            outcome = next(self._rounds)
        except StopIteration:
            self.lasts.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.is_closed = True
        else:
            if outcome is not None:
                raise outcome


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses take no time, and are noted."""
    noted: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        noted.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    return noted


async def _lasting(work: Work) -> None:
    async with asyncio.timeout(10):
        await work.lasts.wait()


@pytest.mark.parametrize(
    "outcome",
    [RuntimeError("a bug"), KeyError("x"), MemoryError(), asyncio.CancelledError(), None],
    ids=repr,
)
async def test_a_task_goes_on_however_its_work_ended(
    outcome: BaseException | None, pauses: list[float]
) -> None:
    supervisor = Supervisor()
    work = Work(outcome, outcome)
    with capture_logs() as logs:
        task = supervisor.keep("sweep", work)
        await _lasting(work)
    assert work.begun == 3
    assert supervisor.faults == {"sweep": 2}
    assert [log["event"] for log in logs] == ["task.broke"] * 2
    assert all(log["task"] == "sweep" and log["exc_info"] for log in logs)
    await end([task])
    assert task.cancelled()
    assert work.is_closed


async def test_pauses_grow_and_are_bounded(pauses: list[float]) -> None:
    work = Work(*(RuntimeError() for _ in range(9)))
    task = Supervisor().keep("sweep", work)
    await _lasting(work)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    await end([task])


async def test_after_a_long_run_the_pause_is_short_again(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_PAUSE_S", -1.0)  # every run is longer
    work = Work(*(RuntimeError() for _ in range(3)))
    task = Supervisor().keep("sweep", work)
    await _lasting(work)
    assert pauses == [1, 1, 1]
    await end([task])


async def test_work_with_an_end_ends_and_is_begun_anew_when_it_breaks(
    pauses: list[float],
) -> None:
    supervisor = Supervisor()
    work = Work(RuntimeError(), None)
    async with asyncio.timeout(10):
        await supervisor.finish("lane", work)
    assert work.begun == 2
    assert supervisor.faults == {"lane": 1}


async def test_a_task_in_its_pause_ends_at_once() -> None:
    supervisor, broke = Supervisor(), asyncio.Event()

    async def work() -> None:
        broke.set()
        raise RuntimeError("a bug")

    task = supervisor.keep("sweep", work)
    await broke.wait()
    async with asyncio.timeout(0.5):
        await end([task])
    assert task.cancelled()
    assert supervisor.faults == {"sweep": 1}


async def test_what_broke_is_told_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor()
    assert supervisor.warnings() == {}
    supervisor.broke("dispatch", ValueError("not for everybody"))
    supervisor.broke("dispatch", KeyError("not for everybody"))
    assert supervisor.warnings() == {
        "dispatch": "broke with KeyError 0 s ago, 2 times since the start"
    }
    monkeypatch.setattr(module, "_TOLD_S", 0.0)
    assert supervisor.warnings() == {}

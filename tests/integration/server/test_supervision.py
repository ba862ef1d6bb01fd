"""What serves for the life of the coordinator goes on, whatever breaks it."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CoroutineType
from typing import Any

import httpx
import pytest

from aitbc_server import supervisor
from aitbc_server.dispatch import turns
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.observer import Observer
from aitbc_server.domain.call import Call
from aitbc_server.domain.errors import BlockNotFound
from aitbc_server.domain.jobs import Begin, Completion, NewJob
from aitbc_server.rest.server import RestServer
from aitbc_server.telemetry.families import TASK_RESTARTS
from tests.integration.server.harness import PATIENCE_S, Client, coordinator
from tests.integration.server.test_webhooks import complete_one, create, following, serving
from tests.receiver import Receiver, status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 200."""
    one = Receiver(status(200))
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(turns, "RETRY_S", 0.02)


class Breaking:
    """A method that raises, or returns a future that does, so many times before it works."""

    def __init__(self, works: Callable[..., Any], error: Exception, *, times: int = 2) -> None:
        self._works = works
        self._error = error
        self._left = times
        self.works_again = asyncio.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._left:
            self._left -= 1
            raise self._error
        self.works_again.set()
        return self._works(*args, **kwargs)

    def later(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """As a method of the store."""
        future: Future[Any] = asyncio.get_running_loop().create_future()
        if self._left:
            self._left -= 1
            future.set_exception(self._error)
            return future
        self.works_again.set()
        answer: Future[Any] = self._works(*args, **kwargs)
        return answer


async def restarts(client: Client) -> dict[str, float]:
    """Returns the metric, by task."""
    async with httpx.AsyncClient(base_url=client.url) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    begin = f'{TASK_RESTARTS.name}_total{{task="'
    counts = (line.removeprefix(begin).split('"} ') for line in lines if line.startswith(begin))
    return {task: float(count) for task, count in counts}


async def ready(client: Client) -> tuple[int, dict[str, Any]]:
    """Returns what the health page says."""
    async with httpx.AsyncClient(base_url=client.url) as http:
        answer = await http.get("/health/ready")
        return answer.status_code, answer.json()


@pytest.mark.parametrize(("method", "task"), [("newer", "webhook-news"), ("due", "webhook-lane")])
@pytest.mark.parametrize("error", [BlockNotFound(), RuntimeError("a bug")], ids=repr)
async def test_webhooks_outlast_what_the_storage_answers(
    tmp_path: Path, receiver: Receiver, method: str, task: str, error: Exception
) -> None:
    async with serving(tmp_path) as client:
        await create(client, receiver.url)
        outbox = client.coordinator._store.webhooks
        breaking = Breaking(getattr(outbox, method), error)
        setattr(outbox, method, breaking.later)
        job_id = await complete_one(client)
        assert job_id.encode() in (await following(receiver)).body
        # And the next one.
        job_id = await complete_one(client)
        assert job_id.encode() in (await following(receiver)).body
        assert await restarts(client) == {task: 2}
        code, told = await ready(client)
        assert (code, told["status"]) == (200, "ok")
        assert list(told["warnings"]) == [task]
        assert told["warnings"][task].startswith(f"broke with {type(error).__name__} ")


async def test_blocks_are_sealed_after_a_fault(tmp_path: Path) -> None:
    async with coordinator(tmp_path, ledger_block_seconds=0.1) as client:
        ledger = client.coordinator._store.ledger
        breaking = Breaking(ledger.seal, ValueError("a bug"))
        ledger.seal = breaking.later  # type: ignore[method-assign]
        await complete_one(client)
        async with (
            httpx.AsyncClient(base_url=client.url) as http,
            http.stream(
                "GET", "/explorer/blocks:watch?after_height=-1", timeout=PATIENCE_S
            ) as blocks,
        ):
            await anext(blocks.aiter_lines())
        assert (await restarts(client))["ledger"] == 2


async def test_jobs_are_dispatched_after_a_turn_broke(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        core = client.coordinator._dispatcher.core
        for step in ("tick", "match", "next_timer"):
            setattr(core, step, Breaking(getattr(core, step), RuntimeError("a bug")))
        job_id = await complete_one(client)
        assert (await client.job(job_id, wait=PATIENCE_S)).result == "done"
        assert await restarts(client) == {"dispatch": 6}


class Broken(Observer):
    """Raises, whatever it is told."""

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        raise RuntimeError

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        raise RuntimeError

    def completed(self, completions: Sequence[Completion]) -> None:
        raise RuntimeError


async def test_an_observer_that_breaks_keeps_no_job_from_its_end(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        client.coordinator._dispatcher.observers.add(Broken())
        job_id = await complete_one(client)
        assert (await client.job(job_id, wait=PATIENCE_S)).result == "done"
        assert await restarts(client) == {"observer": 3}


async def test_a_task_that_ends_by_itself_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []
    again = asyncio.Event()

    async def sweep(_: RestServer) -> None:
        swept.append(1)
        if len(swept) > 1:
            again.set()

    monkeypatch.setattr(RestServer, "_sweep", sweep)
    async with coordinator(tmp_path) as client:
        await asyncio.wait_for(again.wait(), PATIENCE_S)
        assert (await restarts(client))["http-sweep"] >= 1


async def test_every_task_of_an_idle_coordinator_is_supervised(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with coordinator(tmp_path, job_retention="1d", metrics="127.0.0.1:0"):
        # Those of uvicorn only wait for their end; gRPC's are its own.
        tasks = {
            task.get_name(): _file(task)
            for task in asyncio.all_tasks() - before
            if "/aitbc_server/" in _file(task)
        }
    assert set(tasks) == {
        "batches",
        "ended-keys",
        "explorer",
        "file-sweep",
        "grpc-connections",
        "http-date",
        "http-sweep",
        "keys",
        "ledger",
        "miner-expiry",
        "retention-erase",
        "retention-sweep",
        "retention-unkept",
        "unfinished-messages",
        "webhook-news",
        "webhook-prune",
    }
    assert {Path(file).name for file in tasks.values()} == {"supervisor.py"}
    assert not {task for task in asyncio.all_tasks() - before if task.get_name() in tasks}


def _file(task: asyncio.Task[Any]) -> str:
    work = task.get_coro()
    return work.cr_code.co_filename if isinstance(work, CoroutineType) else ""

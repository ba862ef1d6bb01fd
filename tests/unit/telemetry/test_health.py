from __future__ import annotations

import asyncio
from asyncio import Future

import pytest

from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.lifecycle import Lifecycle, Phase
from aitbc_server.telemetry import health as module
from aitbc_server.telemetry.health import Health


class Store:
    """Answers probes as the test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False
        self.probes = 0

    def probe(self) -> Future[None]:
        self.probes += 1
        future: Future[None] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
        elif not self.hangs:
            future.set_result(None)
        return future


class Streams:
    """Answers as the test says."""

    def __init__(self) -> None:
        self.lives = True

    async def is_answering(self) -> bool:
        return self.lives


@pytest.fixture
def lifecycle() -> Lifecycle:
    lifecycle = Lifecycle()
    lifecycle.phase = Phase.SERVING
    return lifecycle


async def test_everything_that_works_is_ok(lifecycle: Lifecycle) -> None:
    checks = await Health(lifecycle, Store(), Streams()).checks()
    assert checks == {"phase": "ok", "store": "ok", "streams": "ok"}


async def test_a_store_that_cannot_write_is_named(lifecycle: Lifecycle) -> None:
    store = Store()
    store.error = StorageUnavailable()
    checks = await Health(lifecycle, store, Streams()).checks()
    assert checks["store"] == "the coordinator cannot reach its storage"


async def test_a_check_that_breaks_is_named_to_all_that_ask(lifecycle: Lifecycle) -> None:
    store = Store()
    store.error = RuntimeError("not for everybody")
    health = Health(lifecycle, store, Streams())
    told = await asyncio.gather(*(health.checks() for _ in range(3)))
    assert (
        told == [{"phase": "ok", "store": "the check broke with RuntimeError", "streams": "ok"}] * 3
    )


async def test_a_store_that_hangs_is_named(
    lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROBE_TIMEOUT_S", 0.01)
    store = Store()
    store.hangs = True
    checks = await Health(lifecycle, store, Streams()).checks()
    assert checks["store"].startswith("a write took longer")


async def test_a_write_that_was_refused_a_moment_ago_is_named(
    lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health(lifecycle, Store(), Streams())
    health.committed(3, 0.1, False)
    assert (await health.checks())["store"].startswith("a write was refused")
    monkeypatch.setattr(module, "_REFUSAL_S", 0.0)
    monkeypatch.setattr(module, "_FRESH_S", 0.0)
    assert (await health.checks())["store"] == "ok"


async def test_a_dead_stream_layer_is_named(lifecycle: Lifecycle) -> None:
    streams = Streams()
    streams.lives = False
    checks = await Health(lifecycle, Store(), streams).checks()
    assert checks["streams"] == "the gRPC port does not answer"


async def test_before_it_serves_nothing_else_is_asked() -> None:
    store = Store()
    assert await Health(Lifecycle(), store, Streams()).checks() == {
        "phase": "the coordinator is starting"
    }
    assert store.probes == 0


async def test_many_that_ask_at_once_cost_one_probe(lifecycle: Lifecycle) -> None:
    store = Store()
    health = Health(lifecycle, store, Streams())
    await asyncio.gather(*(health.checks() for _ in range(20)))
    await health.checks()
    assert store.probes == 1

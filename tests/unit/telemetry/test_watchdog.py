from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from aitbc_server.telemetry.watchdog import LoopWatch

WARN_S = 0.05
PATIENCE_S = 10


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with capture_logs() as logs:
        yield logs


async def stalled(watch: LoopWatch) -> None:
    """Waits until a stall was noticed."""
    async with asyncio.timeout(PATIENCE_S):
        while not watch.stalls:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0)


async def answering(headers: dict[str, str], seconds: float) -> None:
    # As a handler of a call: its frame holds the headers, and what it calls holds the loop.
    await work(seconds)
    assert headers


async def work(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - what nobody should do


async def test_a_long_turn_is_measured_and_its_call_named(
    logged: list[structlog.typing.EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    # These functions stand for those of the server.
    monkeypatch.setattr("aitbc_server.telemetry.watchdog._PACKAGE", "tests.")
    watch = LoopWatch(WARN_S)
    watch.start()
    try:
        await answering({"x-request-id": "req-culprit"}, 1.0)
        await stalled(watch)
    finally:
        watch.stop()
    assert watch.longest_s > 0.9
    told = next(log for log in logged if log["event"] == "loop.stalled")
    assert told["request_id"] == "req-culprit"
    assert told["where"] == f"{__name__}.work"
    assert told["seconds"] > 0.9


async def test_a_loop_that_only_waits_is_not_late(
    logged: list[structlog.typing.EventDict],
) -> None:
    # Far above what a busy machine may do to a test.
    watch = LoopWatch(30)
    watch.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while watch.longest_s == 0:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0)
    finally:
        watch.stop()
    assert watch.stalls == 0
    assert not logged

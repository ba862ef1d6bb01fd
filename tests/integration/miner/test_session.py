from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from aitbc.v1.work_pb2 import (
    CANCEL_REASON_REQUESTED,
    Ack,
    Acks,
    Assignments,
    CoordinatorMessage,
    Failure,
    GpuInfo,
    Update,
)
from aitbc_miner.agent import Agent
from aitbc_miner.engines.base import Engine
from aitbc_miner.engines.echo import EchoEngine
from aitbc_miner.errors import EngineDead, EngineStopped, HandedBack, Misconfigured, Superseded
from aitbc_miner.miner import Miner, Stop
from tests.integration.miner.fake_coordinator import (
    TIMEOUT_S,
    Ending,
    FakeCoordinator,
    assignment,
    fake_coordinator,
)
from tests.unit.miner.fakes import FakeEngine

# Beyond every update of a lease.
ALL = 1000

UNAVAILABLE = Ending(code=grpc.StatusCode.UNAVAILABLE, details="draining", reason="DRAINING")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMiner:
    """A miner in this process."""

    agent: Agent
    stop: Stop
    ready: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        """Waits for its end and raises what ended it."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.task


@asynccontextmanager
async def running(
    address: str, engines: Sequence[Engine], *, slots: int = 4, api_key: str | None = None
) -> AsyncIterator[RunningMiner]:
    stop, ready = Stop(), asyncio.Event()
    agent = Agent(
        miner_id="miner",
        engines=engines,
        slots=slots,
        gpu_info=GpuInfo(name="CPU", memory="15GB"),
        version="test",
        clock=asyncio.get_running_loop().time,
    )
    miner = Miner(
        agent,
        coordinator=address,
        api_key=api_key,
        stop=stop,
        on_ready=ready.set,
        rng=random.Random(1),
    )
    task = asyncio.create_task(miner.run())
    try:
        yield RunningMiner(agent=agent, stop=stop, ready=ready, task=task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with fake_coordinator() as listening:
        yield listening


async def test_a_session_begins_with_hello_and_is_ready_at_welcome(
    coordinator: FakeCoordinator,
) -> None:
    async with running(coordinator.address, [EchoEngine(("m", "n"))], api_key="key") as miner:
        session = await coordinator.session()
        assert session.hello.miner_id == "miner"
        assert list(session.hello.models) == ["m", "n"]
        assert session.hello.capacity.max_outstanding_jobs == 4
        assert session.hello.gpu_info.memory == "15GB"
        assert session.metadata["x-api-key"] == "key"
        assert not miner.ready.is_set()
        await session.welcome()
        await asyncio.wait_for(miner.ready.wait(), TIMEOUT_S)


async def test_a_batch_of_assignments_is_answered_in_one_message(
    coordinator: FakeCoordinator,
) -> None:
    async with running(coordinator.address, [EchoEngine(("m",))], slots=64):
        session = await coordinator.session()
        await session.welcome()
        await session.assign(*(assignment(f"lease-{i}", f"prompt {i}") for i in range(64)))
        updates = await session.next_updates()
        assert [update.completion.result for update in updates] == [
            f"prompt {i}" for i in range(64)
        ]


async def test_a_lost_stream_is_reopened_and_what_the_coordinator_forgot_is_told_again(
    coordinator: FakeCoordinator,
) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]):
        first = await coordinator.session()
        await first.welcome()
        await first.assign(assignment("runs"), assignment("ended"), assignment("lost"))
        engine.say("runs", "Hel")
        await first.text_until("runs", "Hel")
        engine.finish("ended", "result")
        await first.next_updates()
        first.end(UNAVAILABLE)

        second = await coordinator.session()
        held = {lease.lease_id: lease.next_sequence for lease in second.hello.held_leases}
        assert held == {"runs": 1, "ended": 1, "lost": 0}
        await second.welcome(lost=["lost"], acks={"runs": 0, "ended": 0})
        told: dict[str, Update] = {}
        while len(told) < 2:
            told |= {update.lease_id: update for update in await second.next_updates()}
        assert (told["runs"].sequence, told["runs"].delta.text) == (0, "Hel")
        assert (told["ended"].sequence, told["ended"].completion.result) == (0, "result")
        await asyncio.wait_for(engine.stopped["lost"].wait(), TIMEOUT_S)

        engine.finish("runs", "lo")
        delta, completion = await second.next_updates()
        assert (delta.sequence, delta.delta.text) == (1, "lo")
        assert (completion.sequence, completion.completion.result) == (2, "Hello")


async def test_a_coordinator_that_restarts_on_its_address_is_found_again() -> None:
    async with fake_coordinator() as before:
        stack = running(before.address, [EchoEngine(("m",))])
        await stack.__aenter__()
        session = await before.session()
        await session.welcome()
        await session.assign(assignment("1", "hello"))
        await session.next_updates()
    try:
        async with fake_coordinator(before.address) as after:
            session = await after.session()
            assert [lease.lease_id for lease in session.hello.held_leases] == ["1"]
            await session.welcome(acks={"1": 1})
            await session.assign(assignment("2", "again"))
            (update,) = await session.next_updates()
            assert update.lease_id == "2"
    finally:
        await stack.__aexit__(None, None, None)


async def test_a_coordinator_that_falls_silent_is_left(coordinator: FakeCoordinator) -> None:
    async with running(coordinator.address, [EchoEngine(("m",))]):
        first = await coordinator.session()
        await first.welcome(heartbeat_s=0.05, lease_s=0.1)
        second = await coordinator.session()
        await second.welcome()


async def test_an_idle_miner_beats_and_a_busy_one_does_not(coordinator: FakeCoordinator) -> None:
    async with running(coordinator.address, [FakeEngine()]):
        session = await coordinator.session()
        await session.welcome(heartbeat_s=0.05, lease_s=30)
        message = await session.next()
        assert message.heartbeat.load.running_jobs == 0
        assert message.heartbeat.load.kv_cache_usage == 0.5


async def test_a_cancelled_job_stops_generating(coordinator: FakeCoordinator) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]):
        session = await coordinator.session()
        await session.welcome()
        await session.assign(assignment("1"))
        engine.say("1", "a")
        await session.next_updates()
        await session.cancel("1", CANCEL_REASON_REQUESTED)
        (update,) = await session.next_updates()
        assert (update.sequence, update.failure.code) == (1, "CANCELLED")
        await asyncio.wait_for(engine.stopped["1"].wait(), TIMEOUT_S)


async def test_a_draining_coordinator_is_rejoined_with_the_jobs_kept(
    coordinator: FakeCoordinator,
) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]):
        first = await coordinator.session()
        await first.welcome()
        await first.assign(assignment("1"))
        await first.drain()
        engine.say("1", "a")
        await first.text_until("1", "a")
        first.end(UNAVAILABLE)
        second = await coordinator.session()
        assert [lease.lease_id for lease in second.hello.held_leases] == ["1"]
        assert not engine.stopped["1"].is_set()


async def test_a_stopped_miner_finishes_over_a_reconnect_and_leaves_when_all_is_acknowledged(
    coordinator: FakeCoordinator,
) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]) as miner:
        first = await coordinator.session()
        await first.welcome()
        await first.assign(assignment("1"))
        engine.say("1", "a")
        await first.text_until("1", "a")
        miner.stop.ask()
        assert (await first.next()).capacity.max_outstanding_jobs == 0
        first.end(UNAVAILABLE)

        second = await coordinator.session()
        assert second.hello.capacity.max_outstanding_jobs == 0
        await second.welcome(acks={"1": 1})
        engine.finish("1", "b")
        await second.next_updates()
        assert not miner.task.done()
        await second.ack(**{"1": 3})
        await miner.end()
        # The miner's goodbye: it closed its side itself.
        ending = await asyncio.wait_for(second.ended, TIMEOUT_S)
        assert ending.code is grpc.StatusCode.OK


async def test_work_that_crossed_the_drain_is_finished_and_not_handed_back(
    coordinator: FakeCoordinator,
) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]) as miner:
        session = await coordinator.session()
        await session.welcome()
        await session.assign(assignment("1"))
        engine.say("1", "a")
        await session.text_until("1", "a")
        miner.stop.ask()
        assert (await session.next()).HasField("capacity")
        engine.finish("1", "b")
        await session.next_updates()
        # Heard in one turn of the loop: in between the miner is idle for an instant.
        acks = Acks(acks=[Ack(lease_id="1", next_sequence=ALL)])
        miner.agent.hear(CoordinatorMessage(acks=acks))
        assert miner.agent.idle.is_set()
        given = Assignments(assignments=[assignment("2")])
        miner.agent.hear(CoordinatorMessage(assignments=given))
        engine.say("2", "c")
        await session.text_until("2", "c")
        engine.finish("2", "d")
        *_, last = await session.next_updates()
        assert last.completion.result == "cd"
        await session.ack(**{"2": ALL})
        await miner.end()


async def test_an_idle_miner_stops_at_once_even_without_a_coordinator() -> None:
    async with running("127.0.0.1:1", [EchoEngine(("m",))]) as miner:
        miner.stop.ask()
        await miner.end()


async def test_a_miner_told_twice_to_stop_hands_its_jobs_back(coordinator: FakeCoordinator) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]) as miner:
        session = await coordinator.session()
        await session.welcome()
        await session.assign(assignment("1"))
        engine.say("1", "a")
        await session.text_until("1", "a")
        miner.stop.ask()
        assert (await session.next()).HasField("capacity")
        miner.stop.ask()
        (update,) = await session.next_updates()
        assert (update.failure.code, update.failure.retryable) == ("MINER_STOPPED", True)
        await session.ack(**{"1": 2})
        with pytest.raises(HandedBack):
            await miner.end()


async def test_a_dead_engine_hands_its_leases_back_and_ends_the_miner(
    coordinator: FakeCoordinator,
) -> None:
    engine = FakeEngine()
    async with running(coordinator.address, [engine]) as miner:
        session = await coordinator.session()
        await session.welcome()
        await session.assign(assignment("1"), assignment("2"))
        engine.say("1", "a")
        await session.text_until("1", "a")
        engine.crash("1", EngineDead("the engine died"))
        failures: dict[str, Failure] = {}
        while len(failures) < 2:
            message = await session.next()
            failures |= {update.lease_id: update.failure for update in message.updates.updates}
        assert {failure.code for failure in failures.values()} == {"ENGINE_DEAD"}
        await session.ack(**{"1": 2, "2": 1})
        with pytest.raises(EngineStopped):
            await miner.end()


async def test_a_miner_superseded_by_another_process_ends(coordinator: FakeCoordinator) -> None:
    async with running(coordinator.address, [EchoEngine(("m",))]) as miner:
        session = await coordinator.session()
        await session.welcome()
        session.end(Ending(code=grpc.StatusCode.ABORTED, reason="SESSION_SUPERSEDED"))
        with pytest.raises(Superseded, match="--miner-id"):
            await miner.end()


async def test_a_refused_hello_ends_the_miner(coordinator: FakeCoordinator) -> None:
    async with running(coordinator.address, [EchoEngine(("m",))]) as miner:
        session = await coordinator.session()
        details = "models: too many"
        session.end(Ending(code=grpc.StatusCode.INVALID_ARGUMENT, details=details))
        with pytest.raises(Misconfigured, match=details):
            await miner.end()


@pytest.mark.parametrize(
    "ending",
    [
        Ending(code=grpc.StatusCode.UNAUTHENTICATED, details="no key"),
        Ending(code=grpc.StatusCode.PERMISSION_DENIED, details="another's miner_id"),
        Ending(code=grpc.StatusCode.ABORTED, reason="OTHER"),
        Ending(code=grpc.StatusCode.INTERNAL, details="a bug"),
        Ending(),
    ],
    ids=["unauthenticated", "denied", "aborted", "internal", "closed"],
)
async def test_any_other_ending_is_followed_by_a_new_session(
    coordinator: FakeCoordinator, ending: Ending
) -> None:
    async with running(coordinator.address, [EchoEngine(("m",))]):
        (await coordinator.session()).end(ending)
        await (await coordinator.session()).welcome()

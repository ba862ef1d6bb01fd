from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.integration.miner.fake_coordinator import (
    Ending,
    FakeCoordinator,
    assignment,
    fake_coordinator,
)
from tests.integration.miner.processes import miner_process

ECHO = ("run", "--engine", "echo", "--model", "m", "--miner-id", "test")


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with fake_coordinator() as listening:
        yield listening


async def test_it_says_when_it_is_ready_and_leaves_at_sigterm(coordinator: FakeCoordinator) -> None:
    async with miner_process(*ECHO, "--coordinator", coordinator.address) as miner:
        session = await coordinator.session()
        assert session.hello.agent_version.startswith("aitbc-miner/")
        assert session.hello.gpu_info.memory.endswith("GB")
        await session.welcome()
        assert await miner.line() == "miner test ready: engine echo, models m, 64 slots"
        miner.process.send_signal(signal.SIGTERM)
        assert await miner.exit_code() == 0


async def test_sigterm_lets_it_finish_what_it_runs(coordinator: FakeCoordinator) -> None:
    options = ("--coordinator", coordinator.address, "--engine-opt", "tokens_per_second=100")
    async with miner_process(*ECHO, *options, "--engine-opt", "tokens=20") as miner:
        session = await coordinator.session()
        await session.welcome()
        await session.assign(assignment("1", "secret words"))
        assert (await session.next_updates())[0].HasField("delta")
        miner.process.send_signal(signal.SIGTERM)
        last = None
        while last is None or not last.HasField("completion"):
            message = await session.next()
            last = message.updates.updates[-1] if message.updates.updates else None
        assert last.completion.usage.completion_tokens == 20
        await session.ack(**{"1": last.sequence + 1})
        assert await miner.exit_code() == 0
        assert "secret" not in await miner.errors()


async def test_a_second_signal_hands_back_what_it_runs(coordinator: FakeCoordinator) -> None:
    options = ("--coordinator", coordinator.address, "--engine-opt", "latency=600")
    async with miner_process(*ECHO, *options) as miner:
        session = await coordinator.session()
        await session.welcome()
        await session.assign(assignment("1"))
        # The unknown model's failure shows that both assignments have arrived.
        await session.assign(assignment("2", model="unknown"))
        await session.next_updates()
        miner.process.send_signal(signal.SIGTERM)
        assert (await session.next()).HasField("capacity")
        miner.process.send_signal(signal.SIGINT)
        (update,) = await session.next_updates()
        assert update.failure.retryable
        await session.ack(**{"1": 1, "2": 1})
        assert await miner.exit_code() == 1
        assert "1 jobs were handed back" in await miner.errors()


async def test_it_ends_when_another_process_has_its_id(coordinator: FakeCoordinator) -> None:
    async with miner_process(*ECHO, "--coordinator", coordinator.address) as miner:
        session = await coordinator.session()
        session.end(Ending(code=grpc.StatusCode.ABORTED, reason="SESSION_SUPERSEDED"))
        assert await miner.exit_code() == 3
        assert "--miner-id" in await miner.errors()


async def test_the_environment_replaces_every_option(coordinator: FakeCoordinator) -> None:
    environment = {
        "AITBC_COORDINATOR": coordinator.address,
        "AITBC_MINER_ID": "from-environment",
        "AITBC_ENGINE": "echo",
        "AITBC_MODEL": "a=x,b c",
        "AITBC_SLOTS": "3",
        "AITBC_API_KEY": "secret-key",
        "AITBC_ENGINE_OPT": "tokens=2",
    }
    async with miner_process("run", environment=environment) as miner:
        session = await coordinator.session()
        assert session.metadata["x-api-key"] == "secret-key"
        assert session.hello.miner_id == "from-environment"
        assert list(session.hello.models) == ["a", "b", "c"]
        assert session.hello.capacity.max_outstanding_jobs == 3
        await session.welcome()
        await session.assign(assignment("1", "one two three", model="b"))
        (update,) = await session.next_updates()
        assert update.completion.result == "one two"
        await session.ack(**{"1": 1})
        miner.process.send_signal(signal.SIGTERM)
        assert await miner.exit_code() == 0
        assert "secret" not in await miner.errors()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--engine", "echo"), "--model: name at least one model"),
        (("--engine", "gpt", "--model", "m"), "--engine gpt: give one of vllm, openai, echo"),
        (("--engine", "openai", "--model", "m"), "--engine-opt base_url: give the server's URL"),
        (("--engine", "echo", "--model", "m", "--lora", "a=x"), "--lora: the echo engine has no"),
        (("--model", "m", "--lora", "a=/no/such"), "--lora a=/no/such: there is no such directory"),
    ],
)
async def test_a_wrong_option_is_one_line_that_names_it(
    arguments: tuple[str, ...], message: str
) -> None:
    async with miner_process("run", *arguments) as miner:
        assert await miner.exit_code() == 2
        errors = await miner.errors()
        assert message in errors
        assert errors.count("\n") == 1

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from aitbc.v1.jobs_pb2 import (
    RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
    ChatMessage,
    Job,
    ResponseFormat,
    Tool,
)
from aitbc.v1.work_pb2 import (
    CANCEL_REASON_DEADLINE_PASSED,
    CANCEL_REASON_LEASE_LOST,
    CANCEL_REASON_REQUESTED,
    FAULT_JOB,
    FAULT_MINER,
    FAULT_PASSING,
    Ack,
    Acks,
    Assignment,
    Assignments,
    Cancellation,
    Cancellations,
    CancelReason,
    CoordinatorMessage,
    Fault,
    GpuInfo,
    Resume,
    Update,
    Welcome,
)
from aitbc_miner.agent import Agent
from aitbc_miner.engines.base import Answer, Chunk, Engine, EngineLoad
from aitbc_miner.engines.echo import EchoEngine
from aitbc_miner.errors import BadRequest, EngineBusy, EngineDead, EngineUnusable
from tests.unit.miner.fakes import FakeClock, FakeEngine


def make_agent(*engines: Engine, slots: int = 4) -> Agent:
    return Agent(
        miner_id="miner",
        engines=engines,
        slots=slots,
        gpu_info=GpuInfo(name="CPU"),
        version="test",
        clock=FakeClock(),
    )


def assign(agent: Agent, *lease_ids: str, model: str = "m", prompt: str = "a b") -> None:
    job = Job(model=model, prompt=prompt)
    assignments = [Assignment(lease_id=lease_id, job=job) for lease_id in lease_ids]
    agent.hear(CoordinatorMessage(assignments=Assignments(assignments=assignments)))


def ack(agent: Agent, **next_sequences: int) -> None:
    agent.hear(CoordinatorMessage(acks=Acks(acks=acks(next_sequences))))


def acks(next_sequences: dict[str, int]) -> Iterable[Ack]:
    return [Ack(lease_id=lease, next_sequence=number) for lease, number in next_sequences.items()]


def cancel(agent: Agent, lease_id: str, reason: CancelReason.ValueType) -> None:
    cancellation = Cancellation(lease_id=lease_id, reason=reason)
    agent.hear(CoordinatorMessage(cancellations=Cancellations(cancellations=[cancellation])))


def updates(agent: Agent) -> list[Update]:
    """Returns the news that is due now."""
    message = agent.next_message()
    return [] if message is None else list(message.updates.updates)


async def next_updates(agent: Agent) -> list[Update]:
    """Returns the next news."""
    while not (news := updates(agent)):
        await asyncio.wait_for(agent.alarm.wait(), 5)
    return news


async def next_news(agent: Agent) -> list[Update]:
    """Returns the next news, past what is said of the miner itself."""
    while True:
        message = agent.next_message()
        if message is None:
            await asyncio.wait_for(agent.alarm.wait(), 5)
        elif message.updates.updates:
            return list(message.updates.updates)


def held(agent: Agent) -> dict[str, int]:
    return {lease.lease_id: lease.next_sequence for lease in agent.hello().hello.held_leases}


async def test_answers_at_hand_go_out_together_without_a_task() -> None:
    agent = make_agent(EchoEngine(("m",)))
    before = asyncio.all_tasks()
    assign(agent, "1", "2", prompt="hello there")
    assert asyncio.all_tasks() == before
    news = updates(agent)
    assert [update.completion.result for update in news] == ["hello there"] * 2
    assert not agent.idle.is_set()
    ack(agent, **{"1": 1, "2": 1})
    assert agent.idle.is_set()
    assert held(agent) == {}


async def test_a_streamed_answer_goes_out_as_deltas_and_a_completion() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    engine.say("1", "Hel")
    (delta,) = await next_updates(agent)
    assert delta.delta.text == "Hel"
    engine.finish("1", "lo")
    last, completion = await next_updates(agent)
    assert (last.sequence, last.delta.text) == (1, "lo")
    assert (completion.sequence, completion.completion.result) == (2, "Hello")
    assert completion.completion.usage.prompt_tokens == 7


async def test_the_engine_gets_what_the_client_set_and_nothing_else() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    job = Job(model="m", messages=[ChatMessage(role="user", content="hi")])
    job.params.temperature = 0.0
    job.params.stop.extend(["\n"])
    assignments = [Assignment(lease_id="1", job=job)]
    agent.hear(CoordinatorMessage(assignments=Assignments(assignments=assignments)))
    got = engine.jobs["1"]
    assert got.params == {"temperature": 0.0, "stop": ["\n"]}
    assert got.prompt is None
    assert got.messages == ({"role": "user", "content": "hi"},)


async def test_jobs_beyond_the_window_or_for_other_models_are_given_back() -> None:
    agent = make_agent(FakeEngine(), slots=1)
    assign(agent, "1", "2")
    assign(agent, "3", model="other")
    failures = {update.lease_id: update.failure for update in updates(agent)}
    assert {lease: failure.code for lease, failure in failures.items()} == {
        "2": "OVER_CAPACITY",
        "3": "MODEL_NOT_SERVED",
    }
    assert all(failure.retryable for failure in failures.values())


async def test_a_job_that_has_ended_takes_no_slot_while_its_acknowledgement_is_on_its_way() -> None:
    engine = FakeEngine()
    agent = make_agent(engine, slots=1)
    assign(agent, "1")
    engine.finish("1", "done")
    await next_updates(agent)
    assign(agent, "2")
    assert "2" in engine.jobs


async def test_a_repeated_assignment_changes_nothing() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    first = engine.jobs["1"]
    assign(agent, "1")
    assert engine.jobs["1"] is first


@pytest.mark.parametrize(
    ("error", "code", "fault"),
    [
        (BadRequest("too long"), "BAD_REQUEST", FAULT_JOB),
        (EngineBusy("full"), "ENGINE_BUSY", FAULT_PASSING),
        (EngineUnusable("no key"), "ENGINE_UNUSABLE", FAULT_MINER),
        (ZeroDivisionError("the secret prompt"), "ENGINE_FAILED", FAULT_PASSING),
        (RecursionError("the secret prompt"), "ENGINE_FAILED", FAULT_PASSING),
        (MemoryError(), "ENGINE_FAILED", FAULT_PASSING),
        (UnicodeEncodeError("utf-8", "secret", 0, 1, "x"), "ENGINE_FAILED", FAULT_PASSING),
        (BaseExceptionGroup("secret", [GeneratorExit()]), "ENGINE_FAILED", FAULT_PASSING),
        (SystemExit("secret"), "ENGINE_FAILED", FAULT_PASSING),
        (asyncio.CancelledError("secret"), "ENGINE_FAILED", FAULT_PASSING),
    ],
)
async def test_what_an_engine_raises_ends_its_lease_and_no_other(
    error: BaseException, code: str, fault: Fault.ValueType
) -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    assign(agent, "2")
    engine.crash("1", error)
    (failure,) = [update.failure for update in await next_news(agent)]
    assert (failure.code, failure.fault) == (code, fault)
    assert failure.retryable is (fault != FAULT_JOB)
    assert "secret" not in failure.message
    engine.finish("2", "fine")
    (update,) = await next_news(agent)
    assert update.completion.result == "fine"


async def test_a_cancelled_job_is_stopped_and_answered() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    engine.say("1", "a")
    await next_updates(agent)
    cancel(agent, "1", CANCEL_REASON_REQUESTED)
    (update,) = updates(agent)
    assert (update.failure.code, update.failure.retryable) == ("CANCELLED", False)
    await asyncio.wait_for(engine.stopped["1"].wait(), 5)
    assert held(agent) == {"1": 2}
    ack(agent, **{"1": 2})
    assert agent.idle.is_set()


async def test_an_answer_that_is_complete_wins_over_its_cancellation() -> None:
    agent = make_agent(EchoEngine(("m",)))
    assign(agent, "1")
    cancel(agent, "1", CANCEL_REASON_REQUESTED)
    (update,) = updates(agent)
    assert update.HasField("completion")


@pytest.mark.parametrize("reason", [CANCEL_REASON_DEADLINE_PASSED, CANCEL_REASON_LEASE_LOST])
async def test_a_lease_that_is_over_is_dropped_without_a_word(
    reason: CancelReason.ValueType,
) -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    engine.say("1", "a")
    await next_updates(agent)
    cancel(agent, "1", reason)
    await asyncio.wait_for(engine.stopped["1"].wait(), 5)
    assert updates(agent) == []
    assert agent.idle.is_set()


async def test_a_cancellation_of_an_unknown_lease_is_ignored() -> None:
    agent = make_agent(FakeEngine())
    cancel(agent, "unknown", CANCEL_REASON_REQUESTED)
    ack(agent, unknown=3)
    assert agent.next_message() is None


async def test_hello_names_what_runs_and_what_is_not_acknowledged() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1", "2", "3")
    engine.finish("1", "a")
    engine.say("2", "b")
    told = 0
    while told < 2:
        told += len(await next_updates(agent))
    assert held(agent) == {"1": 1, "2": 1, "3": 0}


async def test_welcome_stops_lost_leases_and_has_the_rest_told_again() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "lost", "forgotten", "stored", "unmentioned")
    for lease in ("lost", "forgotten", "stored", "unmentioned"):
        engine.say(lease, lease)
    told = 0
    while told < 4:
        told += len(await next_updates(agent))
    engine.finish("stored")
    await next_updates(agent)
    welcome: dict[str, Any] = {"acks": acks({"forgotten": 0, "stored": 2})}
    agent.welcome(Welcome(lost_lease_ids=["lost"], **welcome))
    (update,) = updates(agent)
    assert (update.lease_id, update.sequence, update.delta.text) == ("forgotten", 0, "forgotten")
    assert held(agent) == {"forgotten": 1, "unmentioned": 1}
    await asyncio.wait_for(engine.stopped["lost"].wait(), 5)


async def test_draining_closes_the_window_and_keeps_the_jobs() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    agent.drain()
    message = agent.next_message()
    assert message is not None
    assert message.HasField("capacity")
    assert message.capacity.max_outstanding_jobs == 0
    assert agent.hello().hello.capacity.max_outstanding_jobs == 0
    assert not engine.stopped["1"].is_set()
    # In flight when the window closed: still within it.
    assign(agent, "2")
    assert updates(agent) == []


async def test_handing_back_fails_what_runs_for_another_attempt() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1", "2")
    engine.finish("1", "done")
    await next_updates(agent)
    assert agent.hand_back() == 1
    agent.next_message()  # the window
    (update,) = updates(agent)
    assert (update.lease_id, update.failure.code) == ("2", "MINER_STOPPED")
    assert update.failure.retryable


async def test_a_dead_engine_gives_all_its_jobs_back_and_no_other() -> None:
    dying, living = FakeEngine("m"), FakeEngine("other")
    agent = make_agent(dying, living)
    assign(agent, "1", "2")
    assign(agent, "3", model="other")
    dying.crash("1", EngineDead("the engine died"))
    news = await next_updates(agent)
    assert {update.lease_id for update in news} == {"1", "2"}
    assert {update.failure.code for update in news} == {"ENGINE_DEAD"}
    assert all(update.failure.retryable for update in news)
    assert agent.engine_died.is_set()
    assert not living.stopped["3"].is_set()


async def test_an_engine_that_dies_idle_is_found_by_the_heartbeat() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    agent.heartbeat()
    assert not agent.engine_died.is_set()
    engine.is_dead = True
    agent.heartbeat()
    assert agent.engine_died.is_set()


async def test_the_heartbeat_says_how_busy_the_miner_is() -> None:
    agent = make_agent(FakeEngine())
    assign(agent, "1", "2")
    load = agent.heartbeat().heartbeat.load
    assert (load.running_jobs, load.waiting_jobs, load.kv_cache_usage) == (2, 0, 0.5)


@pytest.mark.parametrize(("resumes", "sequence", "result"), [(True, 2, "abc"), (False, 0, "c")])
async def test_an_answer_is_resumed_where_the_engine_can(
    resumes: bool, sequence: int, result: str
) -> None:
    engine = FakeEngine()
    engine.resumes = resumes
    agent = make_agent(engine)
    assignment = Assignment(
        lease_id="l", job=Job(model="m", prompt="p"), resume=Resume(text="ab", tokens=2)
    )
    agent.hear(CoordinatorMessage(assignments=Assignments(assignments=[assignment])))
    engine.finish("l", "c")
    *_, completion = await next_updates(agent)
    assert (engine.jobs["l"].resume is not None) == resumes
    assert completion.completion.result == result
    assert completion.sequence == sequence


async def test_news_say_now_and_then_how_busy_the_miner_is() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "l")
    told = []
    for text in ("a", "b"):
        engine.say("l", text)
        while (message := agent.next_message()) is None:
            await asyncio.wait_for(agent.alarm.wait(), 5)
        told.append(message.updates.HasField("load"))
        clock = agent._clock
        assert isinstance(clock, FakeClock)
        clock.now += 0.1
    assert told == [True, False]


DEEP = '{"a":' * 1020 + "1" + "}" * 1020


@pytest.mark.parametrize(
    "job",
    [
        Job(model="m", prompt="x", tools=[Tool(name="f", parameters=DEEP)]),
        Job(model="m", prompt="x", tools=[Tool(name="f", parameters="[1]")]),
        Job(model="m", prompt="x", tools=[Tool(name="f", parameters="{")]),
        Job(
            model="m",
            prompt="x",
            response_format=ResponseFormat(type=RESPONSE_FORMAT_TYPE_JSON_SCHEMA, json_schema=DEEP),
        ),
        Job(
            model="m",
            prompt="x",
            response_format=ResponseFormat(type=RESPONSE_FORMAT_TYPE_JSON_SCHEMA),
        ),
        Job(model="m"),
        Job(),
        None,
    ],
)
async def test_an_assignment_that_cannot_be_read_is_a_failed_lease(job: Job | None) -> None:
    agent = make_agent(FakeEngine())
    assignments = [Assignment(lease_id="1", job=job), Assignment(lease_id="2", job=PLAIN)]
    agent.hear(CoordinatorMessage(assignments=Assignments(assignments=assignments)))
    (update,) = updates(agent)
    assert (update.lease_id, update.failure.code) == ("1", "BAD_REQUEST")
    assert (update.failure.fault, update.failure.retryable) == (FAULT_JOB, False)
    ack(agent, **{"1": 1})
    assert held(agent) == {"2": 0}


PLAIN = Job(model="m", prompt="x")


@pytest.mark.parametrize(
    "message",
    [
        CoordinatorMessage(),
        CoordinatorMessage(assignments=Assignments()),
        CoordinatorMessage(assignments=Assignments(assignments=[Assignment()])),
        CoordinatorMessage(assignments=Assignments(assignments=[Assignment(job=PLAIN)])),
        CoordinatorMessage(acks=Acks(acks=[Ack(next_sequence=-1)])),
        CoordinatorMessage(cancellations=Cancellations(cancellations=[Cancellation()])),
    ],
)
async def test_a_message_that_says_nothing_leaves_the_miner_idle(
    message: CoordinatorMessage,
) -> None:
    agent = make_agent(FakeEngine())
    agent.hear(message)
    assert agent.idle.is_set()
    assert agent.next_message() is None


@pytest.mark.parametrize("next_sequence", [-1, -(2**63), 2**63 - 1])
async def test_a_number_that_cannot_be_is_a_lost_lease(next_sequence: int) -> None:
    agent = make_agent(FakeEngine())
    assign(agent, "1", "2")
    agent.welcome(Welcome(acks=acks({"1": next_sequence, "2": 0})))
    assert held(agent) == {"2": 0}


@pytest.mark.parametrize(
    "chunk",
    [Chunk(text=42), Chunk(tokens=-1)],  # type: ignore[arg-type]
)
async def test_a_chunk_that_is_none_ends_its_lease(chunk: Chunk) -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, "1")
    engine.put("1", Chunk(finish_reason=None))
    engine.put("1", chunk)
    (update,) = await next_updates(agent)
    assert update.failure.code == "ENGINE_ANSWER_INVALID"
    await asyncio.wait_for(engine.stopped["1"].wait(), 5)


async def test_an_engine_that_answers_with_something_else_ends_its_lease() -> None:
    class Wrong(FakeEngine):
        def generate(self, job: object) -> Answer:
            return cast("Answer", None)

    agent = make_agent(Wrong())
    assign(agent, "1")
    (update,) = await next_updates(agent)
    assert update.failure.code == "ENGINE_FAILED"


async def test_a_fault_of_the_miner_holds_its_model_back_until_an_answer() -> None:
    engine = FakeEngine("m", "n")
    agent = make_agent(engine)
    assign(agent, "1", "2")
    engine.crash("1", EngineUnusable("the server refuses the key"))
    await asyncio.wait_for(agent.alarm.wait(), 5)
    told = agent.next_message()
    assert told is not None
    assert told.capacity.max_outstanding_jobs == 4
    (pause,) = told.capacity.pauses
    assert (pause.model, pause.code) == ("m", "ENGINE_UNUSABLE")
    assert pause.message == "the server refuses the key"
    assert 0.5 < pause.duration.ToMilliseconds() / 1000 <= 1.0
    assert updates(agent)[0].failure.fault == FAULT_MINER
    assert agent.hello().hello.capacity.pauses == [pause]
    engine.finish("2", "it works again")
    await asyncio.wait_for(agent.alarm.wait(), 5)
    told = agent.next_message()
    assert told is not None
    assert (told.WhichOneof("message"), list(told.capacity.pauses)) == ("capacity", [])


async def test_a_model_that_is_not_served_holds_nothing_back() -> None:
    agent = make_agent(FakeEngine())
    assign(agent, "1", model="other")
    (update,) = updates(agent)
    assert (update.failure.code, update.failure.fault) == ("MODEL_NOT_SERVED", FAULT_MINER)
    assert not agent.hello().hello.capacity.pauses


@pytest.mark.parametrize(
    "reported",
    [
        EngineLoad(waiting_jobs=-3, kv_cache_usage=-1.0),
        EngineLoad(waiting_jobs=2**40, kv_cache_usage=float("nan")),
        EngineLoad(waiting_jobs="x"),  # type: ignore[arg-type]
        None,
    ],
)
async def test_a_load_that_is_none_leaves_the_heartbeat(reported: EngineLoad) -> None:
    class Odd(FakeEngine):
        def load(self) -> EngineLoad:
            return reported

    load = make_agent(Odd()).heartbeat().heartbeat.load
    assert load.waiting_jobs >= 0
    assert 0.0 <= load.kv_cache_usage <= 1.0


async def test_an_engine_that_cannot_say_whether_it_resumes_begins_anew() -> None:
    class Odd(FakeEngine):
        def can_resume(self, job: object) -> bool:
            raise RecursionError

    engine = Odd()
    agent = make_agent(engine)
    assignment = Assignment(lease_id="1", job=PLAIN, resume=Resume(text="be", tokens=1))
    agent.hear(CoordinatorMessage(assignments=Assignments(assignments=[assignment])))
    assert engine.jobs["1"].resume is None

"""What is asked of an engine beside generating: what it is given, and what may be told of it."""

from __future__ import annotations

import asyncio
import math
from array import array
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import (
    CANCEL_REASON_REQUESTED,
    FAULT_JOB,
    Assignment,
    Assignments,
    CoordinatorMessage,
)
from aitbc_miner.agent import Agent
from aitbc_miner.engines.base import Job, Message
from aitbc_miner.engines.echo import EchoEngine
from aitbc_miner.engines.task_border import checked
from aitbc_miner.engines.tasks import Input, Made, ModelInfo, Output, Task
from aitbc_miner.errors import BadRequest, EngineAnswerInvalid, ResultTooLarge
from tests.unit.miner.fakes import FakeEngine
from tests.unit.miner.test_agent import cancel, make_agent, next_updates

EMBED = jobs_pb2.JOB_TASK_EMBED


def asking(task: Task, *inputs: Input, **fields: Any) -> Job:
    fields.setdefault("params", {})
    return Job(request_id="1", model="m", task=task, inputs=inputs, **fields)


def assign(agent: Agent, **fields: Any) -> None:
    assignment = Assignment(lease_id="1", job=jobs_pb2.Job(model="m", **fields))
    agent.hear(CoordinatorMessage(assignments=Assignments(assignments=[assignment])))


async def test_an_engine_gets_the_inputs_and_its_outputs_are_delivered() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    inputs = [jobs_pb2.TaskInput(text="a"), jobs_pb2.TaskInput(token_ids=[1, 2])]
    assign(agent, task=EMBED, inputs=inputs, dimensions=2)
    outputs = [Output(vector=[0.5, 1.0]), Output(vector=[0.0, -2.0])]
    engine.made["1"].put_nowait(Made(outputs=outputs, prompt_tokens=3))
    (update,) = await next_updates(agent)
    job = engine.jobs["1"]
    assert (job.task, job.dimensions) == (Task.EMBED, 2)
    assert job.inputs == (Input(text="a"), Input(token_ids=(1, 2)))
    told = update.completion
    assert [list(output.vector) for output in told.outputs] == [[0.5, 1.0], [0.0, -2.0]]
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (3, 0)
    assert told.usage.HasField("completion_tokens")
    assert told.finish_reason == "stop"


async def test_a_cancelled_task_stops() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, task=EMBED, inputs=[jobs_pb2.TaskInput(text="a")])
    await asyncio.sleep(0)
    cancel(agent, "1", CANCEL_REASON_REQUESTED)
    (update,) = await next_updates(agent)
    assert update.failure.code == "CANCELLED"
    await asyncio.wait_for(engine.stopped["1"].wait(), 5)


async def test_what_an_engine_refuses_of_a_task_is_the_jobs_fault() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, task=EMBED, inputs=[jobs_pb2.TaskInput(text="a")])
    engine.made["1"].put_nowait(BadRequest("too long"))
    (update,) = await next_updates(agent)
    assert (update.failure.message, update.failure.fault) == ("too long", FAULT_JOB)


async def test_outputs_that_are_none_fail_the_job_alone() -> None:
    engine = FakeEngine()
    agent = make_agent(engine)
    assign(agent, task=EMBED, inputs=[jobs_pb2.TaskInput(text="a")])
    engine.made["1"].put_nowait(Made(outputs=[]))
    (update,) = await next_updates(agent)
    assert update.failure.code == "ENGINE_ANSWER_INVALID"


def test_a_hello_says_what_each_model_does() -> None:
    engine = FakeEngine("m", "n")
    engine.info = ModelInfo(tasks=(Task.EMBED, Task.TOKENIZE), max_model_len=512)
    agent = make_agent(engine, EchoEngine(("e",)))
    told = {info.model: info for info in agent.hello().hello.model_infos}
    assert list(told) == ["m", "n", "e"]
    assert list(told["n"].tasks) == [EMBED, jobs_pb2.JOB_TASK_TOKENIZE]
    assert told["n"].max_model_len == 512
    assert list(told["e"].tasks) == list(jobs_pb2.JobTask.values())[1:]
    assert not told["e"].HasField("max_model_len")


@pytest.mark.parametrize(
    ("task", "output"),
    [
        (Task.EMBED, Output()),
        (Task.EMBED, Output(vector=[math.nan])),
        (Task.EMBED, Output(vector=[math.inf, -math.inf])),
        (Task.EMBED, Output(vector=[1e39])),
        (Task.EMBED, Output(vector=["1"])),  # type: ignore[list-item]
        (Task.SCORE, Output()),
        (Task.SCORE, Output(score=math.nan)),
        (Task.SCORE, Output(score="1")),  # type: ignore[arg-type]
        (Task.TOKENIZE, Output(token_ids=[-1])),
        (Task.TOKENIZE, Output(token_ids=[2**31])),
        (Task.TOKENIZE, Output(token_ids=[1.5])),  # type: ignore[list-item]
        (Task.TOKENIZE, Output(token_ids=[1], tokens=["a", "b"])),
        (Task.TOKENIZE, Output(token_ids=[1], tokens=[b"a"])),  # type: ignore[list-item]
        (Task.DETOKENIZE, Output(text=None)),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_output_is_not_told(task: Task, output: Output) -> None:
    with pytest.raises(EngineAnswerInvalid):
        checked(asking(task, Input(text="a")), Made(outputs=[output]), 1000)


def test_of_an_output_what_its_task_has_is_told_and_nothing_else() -> None:
    output = Output(vector=[1.0], score=1, token_ids=[1], tokens=["\ud800"], text="\ud83d\ude00")
    asks = {"return_token_ids": True}
    told = {
        task: checked(
            asking(task, Input(text="a"), params=asks), Made(outputs=[output]), 1000
        ).outputs[0]
        for task in Task
        if task is not Task.GENERATE
    }
    unasked = checked(asking(Task.TOKENIZE, Input(text="a")), Made(outputs=[output]), 1000)
    assert unasked.outputs == [Output(token_ids=array("i", [1]))]
    assert told == {
        Task.EMBED: Output(vector=array("f", [1.0])),
        Task.SCORE: Output(score=1.0),
        Task.TOKENIZE: Output(token_ids=array("i", [1]), tokens=["\ufffd"]),
        Task.DETOKENIZE: Output(text="\U0001f600"),
    }


@pytest.mark.parametrize(
    "output",
    [Output(token_ids=[1] * 1_048_577), Output(token_ids=[1] * 262_145, tokens=["a"] * 262_145)],
)
def test_more_tokens_than_a_message_may_have_are_refused(output: Output) -> None:
    job = asking(Task.TOKENIZE, Input(text="a"), params={"return_token_ids": True})
    with pytest.raises(ResultTooLarge, match="shorter"):
        checked(job, Made(outputs=[output]), 2**30)


def test_outputs_that_fit_into_no_message_are_refused() -> None:
    made = Made(outputs=[Output(vector=[0.5] * 250)])
    with pytest.raises(ResultTooLarge, match="fewer inputs"):
        checked(asking(Task.EMBED, Input(text="a")), made, 1000)


async def made_by_echo(job: Job) -> Made:
    return checked(job, await EchoEngine(("m",)).perform(job), 2**20)


async def test_the_tokens_of_an_echo_are_bytes() -> None:
    job = asking(Task.TOKENIZE, Input(text="hé"), params={"return_token_ids": True})
    (output,) = (await made_by_echo(job)).outputs
    assert list(output.token_ids) == [104, 0xC3, 0xA9]
    assert output.tokens == ["h", "<0xC3>", "<0xA9>"]
    back = asking(Task.DETOKENIZE, Input(token_ids=tuple(output.token_ids)), Input())
    assert [one.text for one in (await made_by_echo(back)).outputs] == ["hé", ""]
    for task in (Task.DETOKENIZE, Task.EMBED):
        with pytest.raises(BadRequest, match=r"inputs\[1\]: 256 is no token"):
            await made_by_echo(asking(task, Input(token_ids=(5,)), Input(token_ids=(256,))))


async def test_an_echo_reads_a_conversation_as_one_text() -> None:
    messages = (Message(role="user", content="a"), Message(role="assistant", content="b"))
    made = await made_by_echo(asking(Task.TOKENIZE, messages=messages))
    assert [list(output.token_ids) for output in made.outputs] == [list(b"a\nb")]
    assert made.prompt_tokens == 0


async def test_an_echo_embeds_the_same_the_same_way() -> None:
    inputs = Input(text="a"), Input(token_ids=(97,)), Input(text="b")
    made = await made_by_echo(asking(Task.EMBED, *inputs, dimensions=3))
    first, same, other = [list(output.vector) for output in made.outputs]
    assert first == same != other
    assert math.hypot(*first) == pytest.approx(1)
    assert (len(first), made.prompt_tokens) == (3, 3)
    pairs = Input(text="a", text_pair="a"), Input(text="a", text_pair="b")
    made = await made_by_echo(asking(Task.SCORE, *pairs))
    assert made.outputs[0].score == pytest.approx(1)
    assert made.outputs[1].score != pytest.approx(1)
    assert made.prompt_tokens == 4

"""Vectors and scores of a real model in vLLM: MiniLM, which comes in a Python package."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import Assignment, Update
from tests.integration.miner.fake_coordinator import FakeSession, fake_coordinator
from tests.integration.miner.processes import miner_process
from tests.integration.miner.test_vllm_engine import COMMAND, START_S, endings

EMBED, SCORE = jobs_pb2.JOB_TASK_EMBED, jobs_pb2.JOB_TASK_SCORE
QUERY = "What is the capital of France?"
# Of conversations; the model has none.
TEMPLATE = (
    "{{ before }} {{ messages[0]['content'] }}{% if add_generation_prompt %} Bananas:{% endif %}"
)
FITS, ELSE = "The capital of France is Paris.", "Bananas are yellow."


def asking(
    lease_id: str,
    task: jobs_pb2.JobTask.ValueType,
    *inputs: jobs_pb2.TaskInput,
    **fields: Any,
) -> Assignment:
    job = jobs_pb2.Job(model="minilm", task=task, inputs=inputs, **fields)
    return Assignment(lease_id=lease_id, job=job)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def text(words: str) -> jobs_pb2.TaskInput:
    return jobs_pb2.TaskInput(text=words)


@pytest.mark.vllm
@pytest.mark.timeout(2 * START_S)
@pytest.mark.skipif(
    not COMMAND.exists() and "CI" not in os.environ,
    reason="vLLM is not installed: `make vllm` makes .venv-vllm. With CI set this is a failure",
)
async def test_a_pooling_model_embeds_scores_and_tokenizes(tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(TEMPLATE)
    async with fake_coordinator() as coordinator:
        options = ["--coordinator", coordinator.address, "--model", "minilm"]
        options += ["--engine-opt", f"chat_template={template}"]
        async with miner_process("run", *options, command=COMMAND, timeout_s=60) as miner:
            session = await coordinator.session(START_S)
            await session.welcome()
            assert "ready: engine vllm, models minilm" in await miner.line()
            (info,) = session.hello.model_infos
            assert list(info.tasks) == list(jobs_pb2.JobTask.values())[2:]
            assert info.max_model_len == 256
            assert session.hello.capacity.max_outstanding_jobs == 32
            await check_vectors(session)
            await check_conversations(session)
            await check_options(session)
            await check_scores(session)
            await check_refusals(session)
            miner.process.terminate()
            assert (await session.next()).HasField("capacity")
            assert await miner.exit_code() == 0


async def one(session: FakeSession, assignment: Assignment) -> Update:
    await session.assign(assignment)
    return (await endings(session, assignment.lease_id))[assignment.lease_id]


async def vector(session: FakeSession, assignment: Assignment) -> list[float]:
    update = await one(session, assignment)
    assert update.HasField("completion"), update
    (output,) = update.completion.outputs
    return list(output.vector)


async def check_vectors(session: FakeSession) -> None:
    # "hello" between the tokens that begin and end a text.
    tokens = jobs_pb2.TaskInput(token_ids=[101, 7592, 102])
    inputs = [text(QUERY), text("hello"), tokens, text(FITS), text(ELSE)]
    completion = (await one(session, asking("vectors", EMBED, *inputs))).completion
    query, hello, same, fits, other = (list(output.vector) for output in completion.outputs)
    assert len(query) == 384
    assert math.hypot(*query) == pytest.approx(1, abs=1e-4)
    assert same == pytest.approx(hello, abs=1e-5)
    assert cosine(query, fits) > 0.8 > 0.2 > cosine(query, other)
    assert completion.usage.prompt_tokens == 9 + 3 + 3 + 9 + 6
    assert completion.usage.completion_tokens == 0


async def check_conversations(session: FakeSession) -> None:
    """One is a text, as the chat template makes it."""
    turn = jobs_pb2.ChatMessage(role="user", content="hello")
    options = jobs_pb2.PromptOptions(
        chat_template_kwargs='{"before": "say"}', add_special_tokens=True
    )
    spoken, begun, written = [
        await vector(session, asked)
        for asked in (
            asking("spoken", EMBED, messages=[turn], prompt_options=options),
            asking(
                "begun",
                EMBED,
                messages=[turn],
                prompt_options=jobs_pb2.PromptOptions(add_generation_prompt=True),
            ),
            asking("written", EMBED, text("say hello")),
        )
    ]
    assert spoken == pytest.approx(written, abs=1e-5)
    assert begun != pytest.approx(written, abs=1e-2)


async def check_options(session: FakeSession) -> None:
    keeps = [
        jobs_pb2.PromptOptions(truncate_prompt_tokens=4, truncation_side=side)
        for side in ("left", "right")
    ]
    left, right = [
        await one(session, asking(f"cut {number}", EMBED, text(QUERY), prompt_options=options))
        for number, options in enumerate(keeps)
    ]
    assert left.completion.usage.prompt_tokens == right.completion.usage.prompt_tokens == 4
    assert list(left.completion.outputs[0].vector) != list(right.completion.outputs[0].vector)
    plain = await vector(session, asking("plain", EMBED, text(QUERY), use_activation=False))
    assert math.hypot(*plain) > 1.1
    pair = jobs_pb2.TaskInput(text=QUERY, text_pair=FITS)
    options = jobs_pb2.PromptOptions(max_tokens_per_query=3, max_tokens_per_document=4)
    whole = await one(session, asking("whole pair", SCORE, pair))
    short = await one(session, asking("short pair", SCORE, pair, prompt_options=options))
    assert whole.completion.usage.prompt_tokens == 19
    assert short.completion.usage.prompt_tokens == 12


async def check_scores(session: FakeSession) -> None:
    pairs = [jobs_pb2.TaskInput(text=QUERY, text_pair=other) for other in (FITS, ELSE)]
    completion = (await one(session, asking("scores", SCORE, *pairs))).completion
    fits, other = (output.score for output in completion.outputs)
    assert fits == pytest.approx(0.879, abs=0.01)
    assert other == pytest.approx(-0.007, abs=0.01)


async def check_refusals(session: FakeSession) -> None:
    failure = (await one(session, asking("long", EMBED, text("x " * 300)))).failure
    assert failure.code == "CONTEXT_LENGTH_EXCEEDED"
    assert "256 tokens" in failure.message
    failure = (await one(session, asking("short", EMBED, text("x"), dimensions=8))).failure
    assert failure.message == "dimensions: the vectors of minilm have one length only"
    unknown = jobs_pb2.TaskInput(token_ids=[99_999])
    failure = (await one(session, asking("unknown", EMBED, unknown))).failure
    assert failure.message == "inputs[0]: token 99999 is none of the model's, which has 30522"

"""vLLM's own parsers and grammars on a model whose every token the test knows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import Assignment, Completion
from tests.integration.miner.fake_coordinator import FakeSession, assignment, fake_coordinator
from tests.integration.miner.processes import miner_process
from tests.integration.miner.test_vllm_engine import COMMAND, START_S, endings
from tests.scripted_model import ENVIRONMENT, OPTIONS, write_model

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
CALL = '[tool_call]\n{"name": "look_up", "arguments": {"city": "Rome"}}\n[/tool_call]'

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(2 * START_S),
    pytest.mark.skipif(
        not COMMAND.exists() and "CI" not in os.environ,
        reason="vLLM is not installed: `make vllm` makes .venv-vllm. With CI set this is a failure",
    ),
]


def asked(script: str, *before: jobs_pb2.ChatMessage, **fields: Any) -> Assignment:
    """Returns a job whose answer is this script, after an earlier conversation."""
    job = assignment(script, "", model="m", temperature=0.0, max_tokens=200)
    job.job.ClearField("prompt")
    job.job.messages.extend(before)
    job.job.messages.add(role="user", content=script)
    job.job.MergeFrom(jobs_pb2.Job(**fields))
    return job


async def answers(session: FakeSession, *jobs: Assignment) -> list[Completion]:
    await session.assign(*jobs)
    ended = await endings(session, *(job.lease_id for job in jobs))
    return [ended[job.lease_id].completion for job in jobs]


async def test_reasoning_is_read_as_vllms_server_reads_it(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    options = {
        **OPTIONS,
        "reasoning_parser": "deepseek_r1",
        "tool_parser": "hermes",
        "max_model_len": "2048",
        "dtype": "float32",
    }
    given = [word for item in options.items() for word in ("--engine-opt", "=".join(item))]
    async with fake_coordinator() as coordinator:
        where = ["--coordinator", coordinator.address, "--model", f"m={model}"]
        async with miner_process(
            "run", *where, *given, command=COMMAND, timeout_s=60, environment=ENVIRONMENT
        ):
            session = await coordinator.session(START_S)
            await session.welcome()
            await check_reasoning(session)
            await check_budgets(session)
            await check_raw_prompts(session)
            await check_forms(session)
            await check_calls(session)
            await check_histories(session)


async def check_reasoning(session: FakeSession) -> None:
    opened = jobs_pb2.ChatMessage(role="system", content="think")
    whole, opened_by_prompt, unended = await answers(
        session,
        asked("[think]Hm, so?[/think]It is 4."),
        # Where the chat template begins the reasoning, its mark is not in the answer.
        asked("Hm, so?[/think]It is 4.", opened),
        asked("[think]Kein Ende für sie"),
    )
    for completion in (whole, opened_by_prompt):
        assert (completion.reasoning, completion.result) == ("Hm, so?", "It is 4.")
        usage = completion.usage
        # A token for each byte.
        assert usage.reasoning_tokens == len("Hm, so?")
        assert usage.completion_tokens > usage.reasoning_tokens + len("It is 4.")
    assert (unended.reasoning, unended.result) == ("Kein Ende für sie", "")


async def check_budgets(session: FakeSession) -> None:
    """Reasoning ends where its budget does, and an answer where it repeats itself."""
    bounded, repeating = await answers(
        session,
        asked("[think]Hm, so?[/think]It is 4.", params={"thinking_token_budget": 4}),
        asked(
            "[think]So.[/think]" + "ab" * 20,
            params={"repetition_detection": {"max_pattern_size": 2, "min_count": 5}},
        ),
    )
    assert bounded.reasoning == "Hm, "
    assert bounded.usage.reasoning_tokens == 4
    assert (repeating.reasoning, repeating.result) == ("So.", "ab" * 5)
    assert (repeating.finish_reason, repeating.stop_string) == ("repetition", "")


async def check_raw_prompts(session: FakeSession) -> None:
    raw = assignment("raw", "Hm[/think]4<|im_start|>", model="m", temperature=0.0, max_tokens=50)
    raw.job.raw_prompt = True
    (completion,) = await answers(session, raw)
    assert (completion.reasoning, completion.result) == ("", "Hm</think>4")


async def check_forms(session: FakeSession) -> None:
    """The form holds the answer, and not the reasoning before it."""
    form = jobs_pb2.ResponseFormat(
        type=jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, json_schema=json.dumps(CITY)
    )
    (completion,) = await answers(
        session, asked('[think]{"no": form[/think]{"city": "Lima"}', response_format=form)
    )
    assert (completion.reasoning, completion.result) == ('{"no": form', '{"city": "Rome"}')


async def check_calls(session: FakeSession) -> None:
    tool = jobs_pb2.Tool(name="look_up", parameters=json.dumps(CITY))
    calling, required, talking = await answers(
        session,
        asked(f"[think]Which?[/think]{CALL}", tools=[tool]),
        asked(f"[think]It must.[/think]{CALL}", tools=[tool], tool_choice="required"),
        asked("[think]None.[/think]It is 4.", tools=[tool]),
    )
    for completion, reasoning in ((calling, "Which?"), (required, "It must.")):
        assert (completion.reasoning, completion.result) == (reasoning, "")
        [call] = completion.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("look_up", {"city": "Rome"})
        assert completion.finish_reason == "tool_calls"
    assert (talking.reasoning, talking.result) == ("None.", "It is 4.")
    assert not talking.tool_calls


async def check_histories(session: FakeSession) -> None:
    """The chat template gets what was thought; the model's puts it into the prompt."""
    thought = jobs_pb2.ChatMessage(role="assistant", content="4", reasoning="2 and 2")
    plain = jobs_pb2.ChatMessage(role="assistant", content="4")
    with_it, without = await answers(
        session, asked("[think]a[/think]b", thought), asked("[think]c[/think]d", plain)
    )
    assert with_it.usage.prompt_tokens - without.usage.prompt_tokens == len("2 and 2")


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("reasoning_parser=nobody", "reasoning_parser=nobody: vLLM has no such parser; it has"),
        ("tool_parser=nobody", "tool_parser=nobody: vLLM has no such parser; it has"),
    ],
)
async def test_a_parser_that_vllm_does_not_have_is_named(
    tmp_path: Path, option: str, remedy: str
) -> None:
    arguments = ["--coordinator", "127.0.0.1:9", "--model", f"m={write_model(tmp_path / 'model')}"]
    async with miner_process(
        "run", *arguments, "--engine-opt", option, command=COMMAND, timeout_s=60
    ) as miner:
        assert remedy in await miner.errors()
        assert await miner.exit_code() != 0

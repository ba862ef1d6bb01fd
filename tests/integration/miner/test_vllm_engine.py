from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from aitbc.v1.work_pb2 import CANCEL_REASON_REQUESTED, Assignment, Resume, Update
from tests.integration.miner.fake_coordinator import FakeSession, assignment, fake_coordinator
from tests.integration.miner.processes import miner_process
from tests.lora import write_adapter

COMMAND = Path(__file__).parents[3] / ".venv-vllm" / "bin" / "aitbc-miner"
# The first start downloads the model's 98 MB and converts them; loading takes half a minute.
START_S = 300.0
JOBS = 8
ADAPTERS = ["legal", "poetry"]
MODELS = ["llama3.2", *ADAPTERS]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.vllm
@pytest.mark.timeout(2 * START_S)
@pytest.mark.skipif(
    not COMMAND.exists() and "CI" not in os.environ,
    reason="vLLM is not installed: `make vllm` makes .venv-vllm. With CI set this is a failure",
)
async def test_vllm_answers_together_stops_what_is_cancelled_and_survives_ctrl_c(
    tmp_path: Path,
) -> None:
    async with fake_coordinator() as coordinator:
        options = ["--coordinator", coordinator.address, "--model", "llama3.2=smollm2"]
        for seed, name in enumerate(ADAPTERS, start=1):
            options += ["--lora", f"{name}={write_adapter(tmp_path / name, seed)}"]
        # With fewer bits, what is answered beside a prompt would change its answer.
        options += ["--engine-opt", "dtype=float32"]
        async with miner_process("run", *options, command=COMMAND, timeout_s=60) as miner:
            session = await coordinator.session(START_S)
            assert JOBS <= session.hello.capacity.max_outstanding_jobs <= 256
            await session.welcome()
            assert list(session.hello.models) == MODELS
            assert session.hello.parents == dict.fromkeys(ADAPTERS, "llama3.2")
            assert f"ready: engine vllm, models {', '.join(MODELS)}" in await miner.line()

            await check_answers(session)
            await check_cancellation(session)
            await check_too_long_a_prompt(session)
            await check_resumption(session)
            await check_resumption_with_probabilities(session)
            await check_tools_without_a_parser(session)
            await check_adapters(session)
            await session.assign(job("last", "Count to fifty.", max_tokens=48))
            await session.next_updates()
            # As Ctrl-C in a terminal does it: to vLLM's processes too.
            os.killpg(miner.process.pid, signal.SIGINT)
            assert (await session.next()).HasField("capacity")
            last = await ending(session, "last")
            assert last.completion.usage.completion_tokens > 1
            assert await miner.exit_code() == 0


def job(lease_id: str, prompt: str, **params: float) -> Assignment:
    return assignment(lease_id, prompt, model="llama3.2", **params)


async def endings(session: FakeSession, *lease_ids: str) -> dict[str, Update]:
    """Waits until all these leases ended, acknowledges them and returns how they did."""
    ended: dict[str, Update] = {}
    while set(ended) < set(lease_ids):
        for update in await session.next_updates():
            if not update.HasField("delta"):
                ended[update.lease_id] = update
    await session.ack(**{lease_id: update.sequence + 1 for lease_id, update in ended.items()})
    return ended


async def ending(session: FakeSession, lease_id: str) -> Update:
    return (await endings(session, lease_id))[lease_id]


async def check_answers(session: FakeSession) -> None:
    """Asks several prompts at once."""
    # One question to which so small a model knows the answer on any machine.
    lease_ids = [f"job-{number}" for number in range(JOBS)]
    question = "What is the capital of France?"
    await session.assign(
        *(job(lease_id, question, temperature=0.0, max_tokens=32) for lease_id in lease_ids)
    )
    for update in (await endings(session, *lease_ids)).values():
        completion = update.completion
        assert "Paris" in completion.result
        # The chat template was applied to its end: the model does not say whose turn it is.
        assert not completion.result.startswith("assistant")
        assert completion.finish_reason == "stop"
        assert completion.usage.prompt_tokens > 20
        assert 0 < completion.usage.completion_tokens <= 32


async def check_cancellation(session: FakeSession) -> None:
    await session.assign(job("endless", "Write a long story.", max_tokens=3000))
    (first,) = await session.next_updates()
    assert first.HasField("delta")
    await session.cancel("endless", CANCEL_REASON_REQUESTED)
    assert (await ending(session, "endless")).failure.code == "CANCELLED"


async def check_too_long_a_prompt(session: FakeSession) -> None:
    await session.assign(job("long", "word " * 9000))
    failure = (await ending(session, "long")).failure
    assert (failure.code, failure.retryable) == ("BAD_REQUEST", False)
    assert "context length" in failure.message


async def check_resumption(session: FakeSession) -> None:
    """Begins an answer in the middle, as another miner left it."""
    question = "What is the capital of France?"
    await session.assign(job("whole", question, temperature=0.0, max_tokens=32))
    whole = (await ending(session, "whole")).completion
    said = whole.result[: len(whole.result) // 2].rpartition(" ")[0]
    resumed = job("rest", question, temperature=0.0, max_tokens=32)
    resumed.resume.CopyFrom(Resume(text=said, tokens=len(said.split())))
    await session.assign(resumed)
    rest = await ending(session, "rest")
    assert rest.completion.result == whole.result
    assert rest.completion.usage.prompt_tokens == whole.usage.prompt_tokens
    assert rest.sequence >= 1


async def check_resumption_with_probabilities(session: FakeSession) -> None:
    question = "What is the capital of France?"
    asked = {"temperature": 0.0, "max_tokens": 16, "logprobs": 2}
    await session.assign(job("likely", question, **asked))
    whole = (await ending(session, "likely")).completion
    said = whole.logprobs[:4]
    resumed = job("likely rest", question, **asked)
    text = "".join(one.token for one in said)
    resumed.resume.CopyFrom(Resume(text=text, tokens=len(said), logprobs=said))
    # Another number of probabilities than of tokens in the text.
    unlike = job("likely anew", question, **asked)
    unlike.resume.CopyFrom(Resume(text=text, tokens=len(said), logprobs=said[:3]))
    await session.assign(resumed, unlike)
    ended = await endings(session, "likely rest", "likely anew")
    for update in ended.values():
        completion = update.completion
        assert completion.result == whole.result
        assert [one.token for one in completion.logprobs] == [one.token for one in whole.logprobs]
    assert list(ended["likely rest"].completion.logprobs[:4]) == list(said)


async def check_tools_without_a_parser(session: FakeSession) -> None:
    """Calls that must be made are made; where the model may decide, nobody could read it."""
    asked = []
    for number, choice in enumerate(("", "required", "look_up")):
        calling = job(f"tool-{number}", "Which city?", temperature=0.0, max_tokens=64)
        calling.job.tools.add(name="look_up", parameters=json.dumps(CITY))
        calling.job.tool_choice = choice
        calling.job.parallel_tool_calls = False
        asked.append(calling)
    await session.assign(*asked)
    ended = await endings(session, "tool-0", "tool-1", "tool-2")
    refused, *made = (ended[name] for name in ("tool-0", "tool-1", "tool-2"))
    assert (refused.failure.code, refused.failure.retryable) == ("BAD_REQUEST", False)
    assert refused.failure.message.startswith("tools: ")
    assert "tool_parser" in refused.failure.message
    for update in made:
        completion = update.completion
        [call] = completion.tool_calls
        assert (call.name, json.loads(call.arguments).keys()) == ("look_up", {"city"})
        assert (completion.result, completion.finish_reason) == ("", "tool_calls")
        # More than the end was told.
        assert update.sequence > 0


async def check_adapters(session: FakeSession) -> None:
    """Asks the model and its adapters one after the other, then all of them together."""
    question = "What is the capital of France?"
    asked: dict[str, float] = {"temperature": 0.0, "max_tokens": 16}
    alone: dict[str, str] = {}
    for model in MODELS:
        await session.assign(assignment(model, question, model=model, **asked))
        alone[model] = (await ending(session, model)).completion.result
    assert "Paris" in alone["llama3.2"]
    assert len(set(alone.values())) == len(MODELS)

    together = {f"{model}-{number}": model for number in range(3) for model in MODELS}
    await session.assign(
        *(
            assignment(lease_id, question, model=model, **asked)
            for lease_id, model in together.items()
        )
    )
    ended = await endings(session, *together)
    assert {lease_id: ended[lease_id].completion.result for lease_id in together} == {
        lease_id: alone[model] for lease_id, model in together.items()
    }
    await check_resumption_of_an_adapter(session, question, alone["legal"])


async def check_resumption_of_an_adapter(session: FakeSession, question: str, whole: str) -> None:
    said = whole[: len(whole) // 2]
    rest = assignment("rest-of-legal", question, model="legal", temperature=0.0, max_tokens=16)
    rest.resume.CopyFrom(Resume(text=said, tokens=len(said.split())))
    await session.assign(rest)
    resumed = (await ending(session, "rest-of-legal")).completion.result
    assert resumed.startswith(said)
    assert "Paris" not in resumed

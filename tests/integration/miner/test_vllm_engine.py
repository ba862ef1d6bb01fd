from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import (
    CANCEL_REASON_REQUESTED,
    FAULT_JOB,
    Assignment,
    Completion,
    Resume,
    Update,
)
from tests.integration.miner.fake_coordinator import FakeSession, assignment, fake_coordinator
from tests.integration.miner.processes import miner_process
from tests.lora import write_adapter
from tests.model import ANSWER, CITY, QUESTION

COMMAND = Path(__file__).parents[3] / ".venv-vllm" / "bin" / "aitbc-miner"
# The start downloads the model's 98 MB and converts them; loading takes half a minute.
START_S = 300.0
JOBS = 8
ADAPTERS = ["legal", "poetry"]
MODELS = ["llama3.2", *ADAPTERS]
CHOICE = {
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
        # As on a machine that never ran it: the process that loads vLLM has fetched the model.
        nothing = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        async with miner_process(
            "run", *options, command=COMMAND, timeout_s=60, environment=nothing
        ) as miner:
            session = await coordinator.session(START_S)
            assert JOBS <= session.hello.capacity.max_outstanding_jobs <= 256
            await session.welcome()
            assert list(session.hello.models) == MODELS
            assert session.hello.parents == dict.fromkeys(ADAPTERS, "llama3.2")
            assert f"ready: engine vllm, models {', '.join(MODELS)}" in await miner.line()

            await check_answers(session)
            await check_tokens(session)
            await check_parameters(session)
            await check_refusals(session)
            await check_forms_that_are_never_done(session)
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


def job(lease_id: str, prompt: str, **params: Any) -> Assignment:
    made = assignment(lease_id, prompt, model="llama3.2", **params)
    made.job.cache_salt = "of-a"
    return made


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
    lease_ids = [f"job-{number}" for number in range(JOBS)]
    await session.assign(
        *(job(lease_id, QUESTION, temperature=0.0, max_tokens=32) for lease_id in lease_ids)
    )
    for update in (await endings(session, *lease_ids)).values():
        completion = update.completion
        assert completion.result == ANSWER
        assert completion.finish_reason == "stop"
        assert completion.usage.prompt_tokens > 20
        assert 0 < completion.usage.completion_tokens <= 32


async def check_tokens(session: FakeSession) -> None:
    """Asks for the tokens of a text and of a conversation, and for the text of tokens."""
    info = session.hello.model_infos[0]
    assert list(info.tasks) == [
        jobs_pb2.JOB_TASK_GENERATE,
        jobs_pb2.JOB_TASK_TOKENIZE,
        jobs_pb2.JOB_TASK_DETOKENIZE,
    ]
    assert info.max_model_len == 4096
    words = jobs_pb2.Job(
        model="llama3.2",
        task=jobs_pb2.JOB_TASK_TOKENIZE,
        inputs=[jobs_pb2.TaskInput(text="1 2")],
        params=jobs_pb2.GenerationParams(return_token_ids=True),
    )
    chat = jobs_pb2.Job(
        model="llama3.2",
        task=jobs_pb2.JOB_TASK_TOKENIZE,
        messages=[jobs_pb2.ChatMessage(role="user", content=QUESTION)],
    )
    await session.assign(
        Assignment(lease_id="words", job=words), Assignment(lease_id="chat", job=chat)
    )
    ended = await endings(session, "words", "chat")
    (output,) = ended["words"].completion.outputs
    assert list(output.tokens) == ["1", "\u0120", "2"]
    (chat_output,) = ended["chat"].completion.outputs
    answer = job("again", QUESTION, temperature=0.0, max_tokens=1)
    texts = jobs_pb2.Job(
        model="llama3.2",
        task=jobs_pb2.JOB_TASK_DETOKENIZE,
        inputs=[
            jobs_pb2.TaskInput(token_ids=output.token_ids),
            jobs_pb2.TaskInput(token_ids=chat_output.token_ids),
        ],
    )
    await session.assign(answer, Assignment(lease_id="texts", job=texts))
    ended = await endings(session, "again", "texts")
    # The prompt of a conversation has as many.
    usage = ended["again"].completion.usage
    assert usage.prompt_tokens == len(chat_output.token_ids)
    first, second = ended["texts"].completion.outputs
    assert first.text == "1 2"
    assert QUESTION in second.text
    assert second.text.endswith("assistant\n")


async def check_parameters(session: FakeSession) -> None:
    """Asks for the tokens of an answer, and then for answers that depend on them."""
    asked: dict[str, Any] = {"temperature": 0.0, "max_tokens": 32}
    plain = job("ids", QUESTION, **asked, return_token_ids=True, prompt_logprobs=1, logprobs=0)
    await session.assign(plain)
    whole = (await ending(session, "ids")).completion
    ids, prompt = list(whole.token_ids), whole.prompt_details
    assert whole.result == ANSWER
    assert len(ids) == whole.usage.completion_tokens == len(whole.logprobs)
    assert [one.token_id for one in whole.logprobs] == ids
    assert len(prompt.token_ids) == whole.usage.prompt_tokens == len(prompt.logprobs)
    assert QUESTION in prompt.text
    assert [one.token_id for one in prompt.logprobs] == list(prompt.token_ids)
    assert all(one.rank > 0 and one.logprob < 0 for one in prompt.logprobs[1:])
    of_tokens = job("of tokens", "", **asked)
    of_tokens.job.ClearField("prompt")
    of_tokens.job.prompt_token_ids.extend(prompt.token_ids)
    stopped = job("stop", QUESTION, **asked)
    stopped.job.params.stop.append(CITY)
    at_token = job("stop id", QUESTION, **asked)
    at_token.job.params.stop_token_ids.append(ids[2])
    allowed = job("allowed", QUESTION, temperature=0.0, max_tokens=3)
    allowed.job.params.allowed_token_ids.append(ids[2])
    biased = job("bias", QUESTION, temperature=0.0, max_tokens=3)
    biased.job.params.logit_bias[ids[2]] = 100.0
    longer = job("longer", QUESTION, **asked, min_tokens=32)
    endless = job("endless", QUESTION, **asked, ignore_eos=True)
    none = job("none", QUESTION, temperature=0.0, return_token_ids=True)
    none.job.params.max_tokens = 0
    going_on = job("going on", "", **asked)
    going_on.job.ClearField("prompt")
    going_on.job.messages.add(role="user", content=QUESTION)
    going_on.job.messages.add(role="assistant", content=ANSWER.partition(CITY)[0].rstrip())
    going_on.job.prompt_options.continue_final_message = True
    # Its length is the rest of the context.
    free = job("free", QUESTION, temperature=0.0)
    free.job.response_format.type = jobs_pb2.RESPONSE_FORMAT_TYPE_REGEX
    free.job.response_format.regex = "(Tokyo ){256}"
    jobs = (of_tokens, stopped, at_token, allowed, biased, longer, endless, none, going_on, free)
    told: dict[str, Completion] = {}
    for some in (jobs[:5], jobs[5:]):
        await session.assign(*some)
        ended = await endings(session, *(one.lease_id for one in some))
        told |= {lease_id: update.completion for lease_id, update in ended.items()}
    assert told["of tokens"].result == ANSWER
    assert (told["stop"].result, told["stop"].stop_string) == (ANSWER.partition(CITY)[0], CITY)
    assert (told["stop id"].stop_token_id, told["stop id"].finish_reason) == (ids[2], "stop")
    assert told["allowed"].result == told["bias"].result != ""
    assert told["longer"].usage.completion_tokens == 32
    assert told["endless"].usage.completion_tokens == 32
    assert (told["none"].result, told["none"].finish_reason) == ("", "length")
    assert list(told["none"].prompt_details.token_ids) == list(prompt.token_ids)
    assert told["going on"].result == f" {CITY}."
    assert told["free"].result == "Tokyo " * 256
    assert told["free"].usage.completion_tokens > 256


def refused(lease_id: str, **fields: Any) -> Assignment:
    made = job(lease_id, QUESTION, max_tokens=4)
    made.job.MergeFrom(jobs_pb2.Job(**fields))
    return made


def formed(kind: jobs_pb2.ResponseFormatType.ValueType, **form: str) -> jobs_pb2.ResponseFormat:
    return jobs_pb2.ResponseFormat(type=kind, **form)


def schema(text: str) -> jobs_pb2.ResponseFormat:
    return formed(jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, json_schema=text)


async def check_refusals(session: FakeSession) -> None:
    """Asks for what cannot be, and then for an answer: no job ends the engine."""
    most, params = 2**31 - 1, jobs_pb2.GenerationParams
    image = jobs_pb2.ContentPart(type="image_url", url="data:image/png;base64,AAAA")
    text = jobs_pb2.ContentPart(type="text", text="look")
    jobs = [
        refused("allowed_token_ids", params=params(allowed_token_ids=[most])),
        refused("logit_bias", params=params(logit_bias={most: 1.0})),
        refused("stop_token_ids", params=params(stop_token_ids=[most])),
        refused("min_tokens", params=params(min_tokens=5)),
        refused("extra_args", params=params(extra_args='{"a": {"b": 1}}')),
        refused("reasoning_effort", prompt_options=jobs_pb2.PromptOptions(reasoning_effort="huge")),
        refused(
            "truncate_prompt_tokens",
            prompt_options=jobs_pb2.PromptOptions(truncate_prompt_tokens=most),
        ),
        refused("max_tokens", params=params(max_tokens=1_000_000)),
    ]
    tokens = refused("prompt_token_ids", prompt_token_ids=[1, most])
    tokens.job.ClearField("prompt")
    parts = refused("messages[0].content[1]")
    parts.job.ClearField("prompt")
    parts.job.messages.add(role="user", parts=[text, image])
    forms = [
        schema('{"type": "array", "uniqueItems": true}'),
        schema('{"enum": []}'),
        schema('{"$ref": "#/nowhere"}'),
        schema('{"type": "nothing"}'),
        formed(jobs_pb2.RESPONSE_FORMAT_TYPE_REGEX, regex="("),
        formed(jobs_pb2.RESPONSE_FORMAT_TYPE_GRAMMAR, grammar="root ::= nowhere"),
        formed(jobs_pb2.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG, structural_tag="{}"),
    ]
    jobs += [tokens, parts]
    blamed = {one.lease_id: one.lease_id for one in jobs}
    for number, form in enumerate(forms):
        jobs.append(refused(f"form {number}", response_format=form))
        blamed[f"form {number}"] = "response_format"
    for name in ("chat_template", "conversations", "messages", "padding", "self", "tools"):
        options = jobs_pb2.PromptOptions(chat_template_kwargs=json.dumps({name: "x"}))
        jobs.append(refused(f"variable {name}", prompt_options=options))
        blamed[f"variable {name}"] = "chat_template_kwargs"
    for begin in range(0, len(jobs), 5):
        some = jobs[begin : begin + 5]
        await session.assign(*some)
        ended = await patiently(session, *(one.lease_id for one in some))
        for lease_id, update in ended.items():
            failure = update.failure
            code = "UNSUPPORTED_PART" if lease_id.startswith("messages") else "BAD_REQUEST"
            assert (failure.code, failure.fault) == (code, FAULT_JOB), lease_id
            assert failure.message.startswith(f"{blamed[lease_id]}: "), failure.message


async def check_forms_that_are_never_done(session: FakeSession) -> None:
    """Asks for one that takes minutes to compile; other jobs do not wait for it."""
    properties = {f"p{number}": {"type": "string"} for number in range(3000)}
    large = schema(json.dumps({"type": "object", "properties": properties}))
    await session.assign(refused("large", response_format=large))
    (update,) = (await patiently(session, "large")).values()
    assert update.failure.code == "BAD_REQUEST"
    assert update.failure.message.startswith("response_format: it takes more than ")


async def patiently(session: FakeSession, *lease_ids: str) -> dict[str, Update]:
    """Waits until all these leases ended, with answers to other jobs meanwhile."""
    ended: dict[str, Update] = {}
    for number in range(100):
        if set(ended) == set(lease_ids):
            break
        await session.assign(job(f"meanwhile {lease_ids[0]} {number}", QUESTION, max_tokens=32))
        is_answered = False
        while not is_answered:
            for update in await session.next_updates():
                if update.HasField("delta"):
                    continue
                await session.ack(**{update.lease_id: update.sequence + 1})
                if update.lease_id in lease_ids:
                    ended[update.lease_id] = update
                else:
                    is_answered = True
    assert set(ended) == set(lease_ids)
    return ended


async def check_cancellation(session: FakeSession) -> None:
    await session.assign(job("endless", "Write a long story.", max_tokens=3000))
    (first,) = await session.next_updates()
    assert first.HasField("delta")
    await session.cancel("endless", CANCEL_REASON_REQUESTED)
    assert (await ending(session, "endless")).failure.code == "CANCELLED"


async def check_too_long_a_prompt(session: FakeSession) -> None:
    await session.assign(job("long", "word " * 9000))
    failure = (await ending(session, "long")).failure
    assert (failure.code, failure.retryable) == ("CONTEXT_LENGTH_EXCEEDED", False)
    assert failure.message.startswith("This model's maximum context length is ")


async def check_resumption(session: FakeSession) -> None:
    """Begins an answer in the middle, as another miner left it."""
    await session.assign(job("whole", QUESTION, temperature=0.0, max_tokens=32))
    whole = (await ending(session, "whole")).completion
    said = whole.result[: len(whole.result) // 2].rpartition(" ")[0]
    resumed = job("rest", QUESTION, temperature=0.0, max_tokens=32)
    resumed.resume.CopyFrom(Resume(text=said, tokens=len(said.split())))
    await session.assign(resumed)
    rest = await ending(session, "rest")
    assert rest.completion.result == whole.result
    assert rest.completion.usage.prompt_tokens == whole.usage.prompt_tokens
    assert rest.sequence >= 1


async def check_resumption_with_probabilities(session: FakeSession) -> None:
    asked = {"temperature": 0.0, "max_tokens": 16, "logprobs": 2}
    await session.assign(job("likely", QUESTION, **asked))
    whole = (await ending(session, "likely")).completion
    said = whole.logprobs[:4]
    resumed = job("likely rest", QUESTION, **asked)
    text = "".join(one.token for one in said)
    resumed.resume.CopyFrom(Resume(text=text, tokens=len(said), logprobs=said))
    # Another number of probabilities than of tokens in the text.
    unlike = job("likely anew", QUESTION, **asked)
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
        calling.job.tools.add(name="look_up", parameters=json.dumps(CHOICE))
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
    asked: dict[str, float] = {"temperature": 0.0, "max_tokens": 16}
    alone: dict[str, str] = {}
    for model in MODELS:
        await session.assign(assignment(model, QUESTION, model=model, **asked))
        alone[model] = (await ending(session, model)).completion.result
    assert CITY in alone["llama3.2"]
    assert len(set(alone.values())) == len(MODELS)

    together = {f"{model}-{number}": model for number in range(3) for model in MODELS}
    await session.assign(
        *(
            assignment(lease_id, QUESTION, model=model, **asked)
            for lease_id, model in together.items()
        )
    )
    ended = await endings(session, *together)
    assert {lease_id: ended[lease_id].completion.result for lease_id in together} == {
        lease_id: alone[model] for lease_id, model in together.items()
    }
    await check_resumption_of_an_adapter(session, alone["legal"])


async def check_resumption_of_an_adapter(session: FakeSession, whole: str) -> None:
    said = whole[: len(whole) // 2]
    rest = assignment("rest-of-legal", QUESTION, model="legal", temperature=0.0, max_tokens=16)
    rest.resume.CopyFrom(Resume(text=said, tokens=len(said.split())))
    await session.assign(rest)
    resumed = (await ending(session, "rest-of-legal")).completion.result
    assert resumed.startswith(said)
    assert CITY not in resumed

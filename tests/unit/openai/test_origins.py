"""What a job's fields are called in the request that they came from, on every surface.

The requests of `surfaces` have all that each surface takes: a field that is new there, and that a
job's fields come from, has to be in one of them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from google.protobuf.message import Message
from pydantic import BaseModel

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import CallError, failure_of
from aitbc_server.api.submissions import Submissions
from aitbc_server.api.validation import validator
from aitbc_server.clock import SystemClock
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument, TaskNotServed
from aitbc_server.domain.ids import IdSource
from aitbc_server.openai.custom_tools import PARAMETERS
from aitbc_server.openai.errors import JobFailed, OpenAIError
from aitbc_server.openai.origins import Path, origin_of, path_text, steps_of
from aitbc_server.openai.schema import Schema
from aitbc_server.openai.wording import in_words_of
from tests.unit.openai.surfaces import (
    CASES,
    IMAGE,
    SURFACES,
    TEXT_FORM,
    Body,
    Jobs,
    Surface,
    asked,
    body_of,
    held_at,
    leaves,
)

SUBMISSIONS = Submissions(SystemClock(), IdSource(secrets.token_bytes), 1 << 24)
# What a surface makes of more than one thing, or of none: these only must not name a wrong one.
DERIVED = {
    "add_generation_prompt",
    "api_notes",
    "continue_final_message",
    "is_thinking_token_budget_optional",
    "raw_prompt",
    "return_token_ids",
    "role",
    "strict",
    "task",
    "type",
}
OF_CUSTOM_TOOLS = json.dumps(PARAMETERS, separators=(",", ":"))
# What a surface asks by itself where a request does not say.
DEFAULTS = {("completions", ("params", "max_tokens")), ("messages", ("parallel_tool_calls",))}
# What requests have that is for the answer alone, or that chooses what is read.
NOT_OF_JOBS = {
    "background",
    "dimensions",
    "echo",
    "embed_dtype",
    "encoding_format",
    "endianness",
    "include_reasoning",
    "max_tool_calls",
    "n",
    "previous_response_id",
    "return_documents",
    "return_token_strs",
    "service_tier",
    "stream",
    "stream_options",
    "summary",
    "top_n",
    "verbosity",
}
# Objects of requests that only choose, or that are told again.
NOT_OF_JOBS_AT_ALL = {"StreamOptions", "ItemReference", "FreeText"}
# Names that jobs have, and no request.
JOBS_NAMES = (
    "api_notes",
    "extra_args",
    "inputs",
    "jobs[",
    "parts[",
    "params",
    "prompt_options",
    "prompt_token_ids",
    "raw_prompt",
    "request_id",
    "text_pair",
)


# Fewer characters than a text may have, and more bytes.
LARGE = "é" * 600_000


def leaves_of(message: Message, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields the fields of a message that are none themselves, with their paths."""
    for field, value in message.ListFields():
        at: Path = (*path, field.name)
        if field.is_repeated and hasattr(value, "items"):
            yield from (((*at, key), value[key]) for key in value)
        elif field.is_repeated:
            for place, one in enumerate(value):
                if isinstance(one, Message):
                    yield from leaves_of(one, (*at, place))
                else:
                    yield (*at, place), one
        elif isinstance(value, Message):
            yield from leaves_of(value, at)
        else:
            yield at, value


def all_leaves(jobs: Jobs) -> dict[tuple[int, Path], Any]:
    return {
        (number, path): value
        for number, job in enumerate(jobs)
        for path, value in leaves_of(job)
        if not (job.raw_prompt and path == ("raw_prompt",))
    }


def changed(value: Any) -> Any:
    """Returns another value of the same kind, with nothing in it as it was but the types."""
    if isinstance(value, dict):
        kept = "type" if value.keys() > {"type"} else ""
        held = {name: one if name == kept else changed(one) for name, one in value.items()}
        return {**held, "changed": 1}
    if isinstance(value, list):
        return [changed(one) for one in value]
    if isinstance(value, str):
        return json.dumps({"changed": 1}) if value.startswith("{") else f"{value}x"
    if isinstance(value, bool) or value is None:
        return not value
    return value + (1 if isinstance(value, int) else 0.125)


def put(body: Body, path: Path, value: Any) -> Body:
    copy: Body = json.loads(json.dumps(body))
    *above, last = path
    held_at(copy, above)[last] = value
    return copy


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_a_field_of_a_job_is_called_what_it_came_from(name: str, number: int) -> None:
    surface = SURFACES[name]
    body = body_of(surface, number)
    request = await asked(surface, body)
    jobs = surface.submissions(request)
    known = all_leaves(jobs)
    others: dict[Path, dict[tuple[int, Path], Any] | OpenAIError] = {}
    for (job, path), value in known.items():
        origin = origin_of(request, path, request.places(job))
        held_at(body, origin)
        if path[-1] in DERIVED or value in ("", OF_CUSTOM_TOOLS) or (name, path) in DEFAULTS:
            continue
        assert origin, path
        if origin not in others:
            wrong = put(body, origin, changed(held_at(body, origin)))
            try:
                others[origin] = all_leaves(surface.submissions(await asked(surface, wrong)))
            except OpenAIError as error:
                others[origin] = error
        other = others[origin]
        if isinstance(other, OpenAIError):
            # A choice among tools may be what is wrong without one.
            refused = str(other.param)
            assert refused.startswith((path_text(origin), "tool_choice")), path
        else:
            assert other.get((job, path)) != value, (path, origin)


@pytest.mark.parametrize("name", SURFACES)
async def test_the_requests_have_all_that_a_surface_takes(name: str) -> None:
    surface = SURFACES[name]
    schemas: set[type[Schema]] = set()
    _collect(surface.schema, schemas)
    takes = {
        (schema, field)
        for schema in schemas
        if schema.__name__ not in NOT_OF_JOBS_AT_ALL
        for field in schema.model_fields
        if field not in NOT_OF_JOBS
    }
    given: set[tuple[type[BaseModel], str]] = set()
    for body in (body_of(surface, number) for one, number in CASES if one == name):
        given |= set(_given(await asked(surface, body)))
    missing = sorted(f"{schema.__name__}.{field}" for schema, field in takes - given)
    assert not missing, ", ".join(missing)


def _collect(annotation: Any, found: set[type[Schema]]) -> None:
    """Adds the objects that a value of a request may be, or have in it."""
    is_schema = isinstance(annotation, type) and issubclass(annotation, Schema)
    if is_schema and annotation not in found:
        found.add(annotation)
        for field in annotation.model_fields.values():
            _collect(field.annotation, found)
    for one in get_args(annotation):
        _collect(one, found)


def _given(value: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(value, BaseModel):
        for field in value.model_fields_set:
            yield type(value), field
            yield from _given(getattr(value, field))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _given(one)


async def refusal_of(surface: Surface, body: Body) -> tuple[OpenAIError | None, bool]:
    """Returns how a request is refused, and whether it is as jobs."""
    try:
        request = await asked(surface, body)
        jobs = surface.submissions(request)
    except OpenAIError as error:
        return error, False
    try:
        await submit(jobs)
    except InvalidArgument as error:
        told = in_words_of(request, error)
        assert isinstance(told, OpenAIError)
        return told, True
    return None, True


async def submit(jobs: Jobs) -> None:
    """Checks jobs as the coordinator does. Raises InvalidArgument."""
    if len(jobs) == 1:
        validator(jobs_pb2.SubmitJobRequest.DESCRIPTOR)(jobs[0])
        await SUBMISSIONS.of_one(jobs[0], Caller())
    else:
        batch = jobs_pb2.BatchSubmitJobsRequest(jobs=jobs)
        validator(jobs_pb2.BatchSubmitJobsRequest.DESCRIPTOR)(batch)
        await SUBMISSIONS.of_batch(batch, Caller())


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_all_that_a_surface_takes_is_what_a_job_takes(name: str, number: int) -> None:
    surface = SURFACES[name]
    refused, _ = await refusal_of(surface, body_of(surface, number))
    assert refused is None, refused.param


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_a_text_with_a_nul_is_named_wherever_it_is(name: str, number: int) -> None:
    surface = SURFACES[name]
    body = body_of(surface, number)
    texts = [path for path in leaves(body) if isinstance(held_at(body, path), str)]
    refusals = 0
    for path in texts:
        wrong = put(body, path, held_at(body, path) + "\0")
        refused, is_of_job = await refusal_of(surface, wrong)
        if refused is None:
            continue
        refusals += 1
        told = refused.param or ""
        if is_of_job and path[-1] != "type":
            assert told == path_text(path), (refused, path)
            assert str(refused) == f"{told}: must not contain the NUL character"
        else:
            held_at(wrong, steps_of(told))
            assert path_text(path).startswith(told) or told.startswith("tool_choice")
    # The model, at least, is always a text.
    assert refusals


WRONG: list[Any] = ["", "a b", "ftp://a.example/b", "é" * 5000, -1, 1.5, 10**10, [], {}, True]


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_what_is_refused_is_a_part_of_the_request_in_its_own_words(
    name: str, number: int
) -> None:
    surface = SURFACES[name]
    body = body_of(surface, number)
    # Of what is there many times, some.
    paths = [path for path in leaves(body) if all(step not in range(8, 66) for step in path)]
    refusals = 0
    for path in paths:
        for value in WRONG:
            wrong = put(body, path, value)
            refused, _ = await refusal_of(surface, wrong)
            if refused is None:
                continue
            refusals += 1
            told = refused.param or ""
            if not str(refused).startswith("Missing"):
                assert told, refused
                held_at(wrong, steps_of(told))
            message = str(refused)
            assert not [one for one in JOBS_NAMES if one in told or one in message], message
    assert refusals


def failed(message: str, code: str = "BAD_REQUEST") -> JobFailed:
    error = jobs_pb2.JobError(code=code, message=message)
    return JobFailed(jobs_pb2.Job(job_id="job-1", status=jobs_pb2.JOB_STATUS_FAILED, error=error))


async def told_of(name: str, body: Body, error: Exception, job: int = 0) -> tuple[Any, str]:
    surface = SURFACES[name]
    request = await asked(surface, {"model": "m", **body})
    surface.submissions(request)
    ids = [*["job-0"] * job, "job-1"]
    told = in_words_of(request, error, ids)
    assert isinstance(told, OpenAIError)
    return told.param, str(told)


HI = [{"role": "user", "content": "hi"}]
SHOWN = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "thinking", "thinking": "hm"}, "what", IMAGE]},
]
BLOCK = {"type": "image", "source": {"type": "base64", "data": "QQ=="}}


@pytest.mark.parametrize(
    ("name", "body", "job", "said", "param"),
    [
        ("chat", {"messages": SHOWN}, 0, "messages[1].content[1]: no", "messages[1].content[2]"),
        ("chat", {"messages": SHOWN}, 0, "messages[1].parts[1]: no", "messages[1].content[2]"),
        (
            "chat",
            {"messages": SHOWN},
            0,
            "messages[1].content[1].image_url.url: no",
            "messages[1].content[2].image_url.url",
        ),
        ("chat", {"messages": HI, "max_completion_tokens": 5}, 0, "max_tokens: no", None),
        ("chat", {"messages": HI, "max_tokens": 5}, 0, "max_completion_tokens: no", "max_tokens"),
        ("chat", {"messages": HI, "guided_regex": "a"}, 0, "response_format: no", "guided_regex"),
        ("chat", {"messages": HI, "logprobs": True}, 0, "logprobs: no", "logprobs"),
        ("chat", {"messages": HI}, 0, "prompt: no", "messages"),
        ("chat", {"messages": HI, "vllm_xargs": {"a": 1}}, 0, "extra_args: no", "vllm_xargs"),
        ("completions", {"prompt": ["a", "b"], "n": 2}, 3, "prompt: no", "prompt[1]"),
        ("completions", {"prompt": [[1], [2]]}, 1, "prompt_token_ids[0]: no", "prompt[1][0]"),
        ("completions", {"prompt": "a"}, 0, "max_tokens: no", "max_tokens"),
        ("responses", {"input": "hi"}, 0, "messages[0]: no", "input"),
        (
            "responses",
            {"instructions": "be brief", "input": "hi", "text": TEXT_FORM},
            0,
            "response_format: no",
            "text.format",
        ),
        ("responses", {"instructions": "x", "input": HI}, 0, "messages[0]: no", "instructions"),
        ("responses", {"instructions": "x", "input": HI}, 0, "messages[1]: no", "input[0]"),
        ("responses", {"input": "hi"}, 0, "max_tokens: no", "max_output_tokens"),
        (
            "messages",
            {"max_tokens": 5, "system": "x", "messages": [{"role": "user", "content": [BLOCK]}]},
            0,
            "messages[1].content[0]: no",
            "messages[0].content[0]",
        ),
        (
            "messages",
            {"max_tokens": 5, "messages": HI, "output_config": {"effort": "low"}},
            0,
            "reasoning_effort: no",
            "output_config.effort",
        ),
        ("embeddings", {"input": ["x"] * 70}, 1, "inputs[3]: no", "input[67]"),
        ("embeddings", {"input": ["x"] * 70}, 1, "input[3]: no", "input[67]"),
        ("embeddings", {"input": [5, 6]}, 0, "inputs[0]: no", "input"),
        ("rerank", {"query": "x", "documents": ["y", "z"]}, 0, "inputs: no", "documents"),
        ("detokenize", {"tokens": [5]}, 0, "inputs: no", "tokens"),
    ],
    ids=str,
)
async def test_what_a_miner_blames_is_told_in_the_words_of_the_request(
    name: str, body: Body, job: int, said: str, param: str | None
) -> None:
    param = param or next(iter(body.keys() - {"messages"}))
    assert await told_of(name, body, failed(said), job) == (param, f"{param}: no")


@pytest.mark.parametrize("name", SURFACES)
async def test_a_prompt_that_is_too_long_is_named(name: str) -> None:
    body = SURFACES[name].bodies[0]
    error = failed("too long", "CONTEXT_LENGTH_EXCEEDED")
    param, message = await told_of(name, body, error)
    assert param in {"messages", "prompt", "input", "documents", "text_2", "tokens"} & body.keys()
    assert message == "too long"


@pytest.mark.parametrize(
    ("name", "body", "error", "told"),
    [
        (
            "chat",
            {"messages": HI, "max_completion_tokens": 5, "min_tokens": 6},
            InvalidArgument("params.min_tokens", "must be at most params.max_tokens"),
            ("min_tokens", "min_tokens: must be at most max_completion_tokens"),
        ),
        (
            "completions",
            {"prompt": "hi", "min_tokens": 17},
            InvalidArgument("params.min_tokens", "must be at most params.max_tokens"),
            ("min_tokens", "min_tokens: must be at most max_tokens"),
        ),
        (
            "responses",
            {"input": "hi", "include": ["message.output_text.logprobs"]},
            InvalidArgument("params.logprobs", "set a lower params.max_tokens"),
            ("top_logprobs", "top_logprobs: set a lower max_output_tokens"),
        ),
        (
            "score",
            {"text_1": ["", ""], "text_2": ["a", ""]},
            InvalidArgument("inputs[1].text", "is required, unless inputs[1].text_pair is given"),
            ("text_1[1]", "text_1[1]: is required, unless text_2[1] is given"),
        ),
        (
            "completions",
            {"prompt": ["a", "b"]},
            InvalidArgument("jobs[1].prompt", "must be at most 5 bytes for this caller"),
            ("prompt[1]", "prompt[1]: must be at most 5 bytes for this caller"),
        ),
        (
            "chat",
            {"messages": HI},
            InvalidArgument("request_id", "must be printable ASCII without spaces"),
            ("Idempotency-Key", "Idempotency-Key: must be printable ASCII without spaces"),
        ),
        (
            "embeddings",
            {"input": "hi"},
            TaskNotServed("task", "the model m does not embed: its miners generate"),
            ("model", "the model m does not embed: its miners generate"),
        ),
    ],
)
async def test_a_sentence_about_fields_has_the_words_of_the_request(
    name: str, body: Body, error: Exception, told: tuple[str, str]
) -> None:
    assert await told_of(name, body, error) == told
    # And the same from behind a gateway.
    assert await told_of(name, body, CallError(failure_of(error))) == told


async def test_an_empty_field_is_named_and_not_what_is_around_it() -> None:
    empty = {"type": "image_url", "image_url": {"url": ""}}
    body = {"model": "m", "messages": [{"role": "user", "content": [empty]}]}
    refused, _ = await refusal_of(SURFACES["chat"], body)
    assert str(refused) == "messages[0].content[0].image_url.url: is required for image_url"


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("chat", {"messages": [{"role": "user", "content": LARGE}]}, "messages[0].content"),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": LARGE}, IMAGE]}]},
            "messages[0].content",
        ),
        ("chat", {"messages": [{**HI[0], "reasoning": LARGE}]}, "messages[0].reasoning"),
        ("completions", {"prompt": ["a", LARGE]}, "prompt[1]"),
        ("responses", {"instructions": LARGE, "input": "hi"}, "instructions"),
        (
            "responses",
            {"instructions": "x", "input": [*HI, {"role": "user", "content": LARGE}]},
            "input[1].content",
        ),
        (
            "responses",
            {"input": [{"type": "function_call_output", "call_id": "x", "output": LARGE}]},
            "input[0].output",
        ),
        ("messages", {"max_tokens": 5, "system": LARGE, "messages": HI}, "system"),
        ("embeddings", {"input": ["a", LARGE]}, "input[1]"),
        ("rerank", {"query": LARGE, "documents": ["a"]}, "query"),
        ("rerank", {"query": "a", "documents": ["a", {"text": LARGE}]}, "documents[1].text"),
        ("score", {"data_1": "a", "data_2": ["a", LARGE]}, "data_2[1]"),
        ("tokenize", {"prompt": LARGE}, "prompt"),
    ],
)
async def test_a_text_with_too_many_bytes_is_named(name: str, body: Body, param: str) -> None:
    refused, is_of_job = await refusal_of(SURFACES[name], {"model": "m", **body})
    assert refused is not None
    assert (refused.param, is_of_job) == (param, True)
    assert str(refused).startswith(f"{param}: must be at most 1048576 bytes")

"""How a job is read for the engines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc.v1.jobs_pb2 import ChatMessage, ContentPart, GenerationParams, ResponseFormat
from aitbc.v1.work_pb2 import Assignment
from aitbc_miner.assignment import read_job
from aitbc_miner.engines.base import Form, Job, Params, PromptOptions
from aitbc_miner.errors import BadRequest

_SCHEMA = {"type": "object"}


def read(**fields: Any) -> Job:
    if not fields.keys() & {"prompt", "messages", "prompt_token_ids"}:
        fields["prompt"] = "p"
    return read_job(Assignment(lease_id="l", job=jobs_pb2.Job(model="m", **fields)))


def test_parameters_are_those_that_are_set() -> None:
    asked = GenerationParams(
        max_tokens=3,
        min_tokens=0,
        stop=["a"],
        stop_token_ids=[1],
        bad_words=["b"],
        allowed_token_ids=[2],
        logit_bias={5: -1.5},
        skip_special_tokens=False,
        ignore_eos=True,
        prompt_logprobs=0,
        return_token_ids=True,
        thinking_token_budget=0,
        is_thinking_token_budget_optional=True,
        repetition_detection=jobs_pb2.RepetitionDetection(max_pattern_size=4, min_count=2),
        extra_args='{"x": 1}',
    )
    assert read(params=asked).params == {
        "max_tokens": 3,
        "min_tokens": 0,
        "stop": ["a"],
        "stop_token_ids": [1],
        "bad_words": ["b"],
        "allowed_token_ids": [2],
        "logit_bias": {5: -1.5},
        "skip_special_tokens": False,
        "ignore_eos": True,
        "prompt_logprobs": 0,
        "return_token_ids": True,
        "thinking_token_budget": 0,
        "is_thinking_token_budget_optional": True,
        "repetition_detection": {"max_pattern_size": 4, "min_count": 2},
        "extra_args": {"x": 1},
    }
    assert read().params == {}


def test_every_parameter_of_a_job_is_one_of_an_engine() -> None:
    assert set(GenerationParams.DESCRIPTOR.fields_by_name) == set(Params.__annotations__)


def test_options_of_the_prompt_are_those_that_are_set() -> None:
    asked = jobs_pb2.PromptOptions(
        chat_template_kwargs='{"enable_thinking": false}',
        documents='[{"title": "a", "text": "b"}]',
        add_generation_prompt=False,
        continue_final_message=True,
        add_special_tokens=False,
        truncate_prompt_tokens=-1,
        reasoning_effort="low",
        truncation_side="right",
        max_tokens_per_query=3,
        max_tokens_per_document=4,
    )
    assert read(prompt_options=asked).options == PromptOptions(
        chat_template_kwargs={"enable_thinking": False},
        documents=[{"title": "a", "text": "b"}],
        add_generation_prompt=False,
        continue_final_message=True,
        add_special_tokens=False,
        truncate_prompt_tokens=-1,
        reasoning_effort="low",
        truncation_side="right",
        max_tokens_per_query=3,
        max_tokens_per_document=4,
    )
    assert read().options == PromptOptions()


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ({}, None),
        ({"type": "TEXT"}, None),
        ({"type": "JSON_OBJECT"}, Form()),
        ({"type": "JSON_SCHEMA", "json_schema": json.dumps(_SCHEMA)}, Form(json_schema=_SCHEMA)),
        ({"type": "JSON_SCHEMA", "json_schema": "{}"}, Form(json_schema={})),
        ({"type": "REGEX", "regex": "a+"}, Form(regex="a+")),
        ({"type": "CHOICE", "choices": ["a", "b"]}, Form(choices=("a", "b"))),
        ({"type": "GRAMMAR", "grammar": "g"}, Form(grammar="g")),
        (
            {"type": "STRUCTURAL_TAG", "structural_tag": '{"format": {}}'},
            Form(structural_tag={"format": {}}),
        ),
    ],
)
def test_what_an_answer_is_held_to_is_one_form(asked: dict[str, Any], form: Form | None) -> None:
    kind = f"RESPONSE_FORMAT_TYPE_{asked.get('type', 'UNSPECIFIED')}"
    fields = {name: value for name, value in asked.items() if name != "type"}
    message = ResponseFormat(type=jobs_pb2.ResponseFormatType.Value(kind), **fields)
    assert read(response_format=message).form == form


def test_a_form_that_nobody_knows_is_refused_and_not_forgotten() -> None:
    unknown = ResponseFormat.FromString(b"\x08\x63")
    with pytest.raises(BadRequest, match=r"^response_format: "):
        read(response_format=unknown)


def test_a_prompt_of_tokens_is_taken_as_it_is() -> None:
    job = read(prompt_token_ids=[5, 6])
    assert (job.prompt, job.messages, job.prompt_token_ids) == (None, (), (5, 6))
    with pytest.raises(BadRequest, match="neither a prompt"):
        read_job(Assignment(lease_id="l", job=jobs_pb2.Job(model="m")))


def test_parts_of_a_message_are_told_as_openai_has_them() -> None:
    message = ChatMessage(
        role="user",
        content="hi",
        parts=[
            ContentPart(type="text", text="hi"),
            ContentPart(type="image_url", url="https://a/b.png", detail="low"),
            ContentPart(type="video_url", url="https://a/b.mp4"),
            ContentPart(type="audio_url", url="https://a/b.mp3"),
            ContentPart(type="input_audio", data="QUJD", format="wav"),
        ],
    )
    (turn,) = read(messages=[message]).messages
    assert turn["content"] == "hi"
    assert turn["parts"] == [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
        {"type": "video_url", "video_url": {"url": "https://a/b.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "https://a/b.mp3"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
    ]
    assert "parts" not in read(messages=[ChatMessage(role="user", content="x")]).messages[0]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"params": GenerationParams(extra_args="[]")}, "extra_args"),
        ({"params": GenerationParams(extra_args="{")}, "extra_args"),
        (
            {"prompt_options": jobs_pb2.PromptOptions(chat_template_kwargs="1")},
            "chat_template_kwargs",
        ),
        (
            {"prompt_options": jobs_pb2.PromptOptions(documents='[{"a": 1}]')},
            "documents",
        ),
        ({"prompt_options": jobs_pb2.PromptOptions(documents="{}")}, "documents"),
        (
            {
                "response_format": ResponseFormat(
                    type=jobs_pb2.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG, structural_tag="[" * 90_000
                )
            },
            "response_format",
        ),
    ],
)
def test_a_text_that_cannot_be_read_is_named(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert str(caught.value).startswith(f"{name}: ")

from __future__ import annotations

from typing import Any

import pytest

from aitbc_miner.engines.base import Form, Job, Message, Params, Tool
from aitbc_miner.engines.resuming import is_resumable


def job(params: Params | None = None, **fields: Any) -> Job:
    return Job(request_id="1", model="m", prompt="p", params=params or {}, **fields)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.7, "repetition_penalty": 1.2, "logit_bias": {1: 2.0}},
        {"min_tokens": 5, "max_tokens": 9, "stop": ["a"], "stop_token_ids": [3]},
        {"presence_penalty": 0.0, "frequency_penalty": 0.0, "ignore_eos": False},
        {"seed": 1, "temperature": 0.0},
        {"include_stop_str_in_output": True},
    ],
)
def test_what_depends_on_the_text_alone_can_be_gone_on_with(params: Any) -> None:
    assert is_resumable(job(params))


@pytest.mark.parametrize(
    "params",
    [
        {"presence_penalty": 0.5},
        {"frequency_penalty": -0.5},
        {"bad_words": ["a"]},
        {"ignore_eos": True},
        {"include_stop_str_in_output": True, "stop": ["ab"]},
        {"seed": 1},
        {"seed": 1, "temperature": 0.5},
        {"return_token_ids": True},
        {"prompt_logprobs": 0},
    ],
)
def test_what_depends_on_more_begins_anew(params: Any) -> None:
    assert not is_resumable(job(params))


def test_forms_calls_and_images_begin_anew() -> None:
    assert not is_resumable(job(form=Form()))
    assert not is_resumable(job(tools=(Tool("f", "", {}),)))
    assert is_resumable(job(tools=(Tool("f", "", {}),), tool_choice="none"))
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert not is_resumable(job(messages=(Message(role="user", content="", parts=[image]),)))

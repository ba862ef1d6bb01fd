"""What is told of what vLLM refuses, with errors like vLLM's."""

from __future__ import annotations

from typing import Any

import pytest

from aitbc_miner.engines.base import Form, Job, Message, Tool
from aitbc_miner.engines.vllm_refusals import prompt_field, refused


class Refusal(Exception):
    """Has what vLLM's errors have."""

    def __init__(self, text: str, parameter: str | None = None) -> None:
        super().__init__(text)
        self.parameter = parameter

    def __str__(self) -> str:
        return f"{self.args[0]} (value=a secret of the prompt)"


def job(**fields: Any) -> Job:
    return Job(request_id="1", model="m", prompt="p", params={}, **fields)


@pytest.mark.parametrize("parameter", ["input_tokens", "input_text"])
def test_a_prompt_that_is_too_long_is_told_in_vllms_words(parameter: str) -> None:
    error = refused(job(), Refusal("This model's maximum context length is 8", parameter), "prompt")
    assert (str(error), error.reason) == (
        "This model's maximum context length is 8",
        "CONTEXT_LENGTH_EXCEEDED",
    )


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (Refusal("no", "logit_bias"), "logit_bias: no"),
        (Refusal("no", "top_logprobs"), "logprobs: no"),
        (Refusal("no", "vllm_xargs"), "extra_args: no"),
        (Refusal("no", "structured_outputs"), "response_format: no"),
        (Refusal("min_tokens must be less"), "min_tokens: min_tokens must be less"),
        (Refusal("Grammar error: odd"), "response_format: Grammar error: odd"),
        (Refusal("Choice '[]' cannot be empty"), "response_format: Choice '[]' cannot be empty"),
        (Refusal("Roles must alternate"), "messages: Roles must alternate"),
        (
            Refusal("The decoder prompt cannot be empty"),
            "prompt: The decoder prompt cannot be empty",
        ),
    ],
)
def test_the_field_that_is_to_blame_comes_first(refusal: Refusal, told: str) -> None:
    error = refused(job(form=Form()), refusal, "messages")
    assert (str(error), error.reason) == (told, "BAD_REQUEST")


def test_a_schema_of_a_tool_is_the_tools() -> None:
    error = refused(job(tools=(Tool("f", "", {}),)), Refusal("Grammar error: odd"))
    assert str(error) == (
        "tools: vLLM cannot hold a call to the JSON Schema of these tools (Grammar error: odd)"
    )


def test_where_a_prompt_comes_from_is_named() -> None:
    turn = Message(role="user", content="x")
    assert prompt_field(job()) == "prompt"
    assert prompt_field(job(messages=(turn,))) == "messages"
    tokens = Job(request_id="1", model="m", prompt_token_ids=(1,), params={})
    assert prompt_field(tokens) == "prompt_token_ids"

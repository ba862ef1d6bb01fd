"""Parameters that are vLLM's own, and what they become in a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.forms import Guided
from aitbc_server.openai.ruled import counted, ruled, sized
from aitbc_server.openai.schema import (
    Noted,
    Sampling,
    Schema,
    Several,
    Shared,
    conversation_id,
    few,
    json_text,
)

_PARAMS = jobs_pb2.GenerationParams.DESCRIPTOR
_OPTIONS = jobs_pb2.PromptOptions.DESCRIPTOR
_REPETITION = jobs_pb2.RepetitionDetection.DESCRIPTOR
_Token = Annotated[int, ruled(_PARAMS, "stop_token_ids")]
# As vLLM has it: what is said more is cut to it.
_MOST_BIAS = 100.0
# Parameters that a job has under the same name.
_SAME = frozenset(
    {
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "include_stop_str_in_output",
        "bad_words",
        "allowed_token_ids",
    }
)
# Parameters of which only the value that is not the default says something.
_UNLESS_TRUE = frozenset({"skip_special_tokens", "spaces_between_special_tokens"})
_OTHERS = frozenset(
    {
        "logit_bias",
        "vllm_xargs",
        "cache_salt",
        "session_id",
        "thinking_token_budget",
        "repetition_detection",
    }
)
_OWN = _SAME | _UNLESS_TRUE | _OTHERS
_OF_PROMPTS = frozenset({"add_special_tokens", "truncate_prompt_tokens", "truncation_side"})
# The word for as much as the model likes to.
_UNLIMITED = -1
_OF_FORMS = frozenset(Guided.model_fields)


_BUDGET = replace(ruled(_PARAMS, "thinking_token_budget"), ge=_UNLIMITED)


class Repetition(Schema, table="repetition_detection"):
    """When an answer repeats itself."""

    max_pattern_size: Annotated[int, ruled(_REPETITION, "max_pattern_size")] = 0
    min_pattern_size: Annotated[int, ruled(_REPETITION, "min_pattern_size")] = 0
    min_count: Annotated[int, ruled(_REPETITION, "min_count")] = 0


class EngineSampling(Shared):
    """Parameters of every request that generates, vLLM's own among them."""

    min_tokens: Annotated[int, ruled(_PARAMS, "min_tokens")] = 0
    ignore_eos: bool = False
    stop_token_ids: Annotated[Several[_Token], counted(_PARAMS, "stop_token_ids")] = ()
    include_stop_str_in_output: bool = False
    bad_words: Annotated[
        Several[Annotated[str, sized(_PARAMS, "bad_words")]], counted(_PARAMS, "bad_words")
    ] = ()
    allowed_token_ids: (
        Annotated[
            tuple[_Token, ...],
            counted(_PARAMS, "allowed_token_ids"),
            Field(min_length=1, fail_fast=True),
        ]
        | None
    ) = None
    logit_bias: Annotated[
        dict[_Token, float],
        counted(_PARAMS, "logit_bias"),
        few(1024),
    ] = Field(default={})
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    cache_salt: (
        Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^@/\\\x00]*$")]
        | None
    ) = None
    session_id: Noted | None = None
    vllm_xargs: Annotated[dict[str, Any], few(100)] = Field(default={})
    thinking_token_budget: Annotated[int, _BUDGET] = _UNLIMITED
    repetition_detection: Repetition = Repetition()

    def job(self, **fields: Any) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that the parameters ask for, with more fields of its params."""
        given = self.model_fields_set
        if given.isdisjoint(_OWN):
            # As most requests have none of these, they are not looked at one by one.
            return super().job(**fields)
        params = {name: getattr(self, name) for name in _SAME & given}
        params |= {name: False for name in _UNLESS_TRUE & given if not getattr(self, name)}
        if self.logit_bias:
            params["logit_bias"] = {
                token: max(-_MOST_BIAS, min(bias, _MOST_BIAS))
                for token, bias in self.logit_bias.items()
            }
        if self.thinking_token_budget != _UNLIMITED:
            params["thinking_token_budget"] = self.thinking_token_budget
        if self.repetition_detection.max_pattern_size:
            params["repetition_detection"] = self.repetition_detection.model_dump()
        if self.vllm_xargs:
            params["extra_args"] = json_text(self.vllm_xargs)
        job = super().job(**{**params, **fields})
        if self.cache_salt is not None:
            job.cache_salt = self.cache_salt
        if self.session_id is not None and not job.conversation_id:
            job.conversation_id = conversation_id(self.session_id)
        return job


class EngineParameters(EngineSampling, Sampling, Guided):
    """Parameters that chat and completions share."""

    prompt_logprobs: Annotated[int, ruled(_PARAMS, "prompt_logprobs")] | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, ruled(_OPTIONS, "truncate_prompt_tokens")] | None = None
    truncation_side: Literal["left", "right"] | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    echo: bool = False

    def jobs(self, **fields: Any) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Yields a job for each of the `n` answers asked for. Raises OpenAIError."""
        given = self.model_fields_set
        if self.prompt_logprobs is not None:
            fields["prompt_logprobs"] = self.prompt_logprobs
        jobs = super().jobs(**fields)
        if given.isdisjoint(_OF_PROMPTS) and given.isdisjoint(_OF_FORMS):
            yield from jobs
            return
        options = jobs_pb2.PromptOptions(
            **{name: getattr(self, name) for name in _OF_PROMPTS & given}
        )
        form = self.form() if _OF_FORMS & given else None
        for job in jobs:
            if options.ListFields():
                job.prompt_options.CopyFrom(options)
            if form is not None:
                job.response_format.CopyFrom(form)
            yield job

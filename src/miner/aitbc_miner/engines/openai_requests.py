"""What a job asks of a server that speaks the OpenAI API, in its words and else in vLLM's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aitbc_miner.engines.base import Job, Message
from aitbc_miner.engines.tools import AUTO, NONE, REQUIRED

STREAM_OPTIONS, CACHE_SALT = "stream_options", "cache_salt"
_BUDGET = "thinking_token_budget"
_HINTS = {
    STREAM_OPTIONS: (STREAM_OPTIONS, "include_usage"),
    "return_token_ids": ("return_token_ids",),
    "return_prompt_text": ("return_prompt_text",),
    "reasoning_effort": ("reasoning_effort",),
    CACHE_SALT: (CACHE_SALT,),
}
# Options of a prompt that has no chat template.
_OF_TEXTS = {"add_special_tokens", "truncate_prompt_tokens", "truncation_side"}


def hints_of(job: Job) -> Mapping[str, Sequence[str]]:
    """Returns what an answer is right without: by its name, the words in which it may be refused.

    What else a server does not know fails the job, for its client would take the answer for what it
    is not.
    """
    if job.params.get("is_thinking_token_budget_optional", False):
        return {**_HINTS, _BUDGET: (_BUDGET,)}
    return _HINTS


def body_of(job: Job, model: str, *, is_raw: bool, reasoning_word: str | None) -> dict[str, Any]:
    """Returns the body of a request.

    `model`: the server's own name; `is_raw`: whether the prompt goes without a chat template;
    `reasoning_word`: what the server calls the reasoning of a turn, if it ever told one.
    """
    body: dict[str, Any] = {"model": model, **_streaming(job), **_asked(job), **options_of(job)}
    said = job.resume.text if job.resume else ""
    if "max_tokens" in body:
        # No server generates nothing: the answer is dropped.
        spent = job.resume.tokens if job.resume else 0
        body["max_tokens"] = max(1, body["max_tokens"] - spent)
    if job.resume and "min_tokens" in body:
        body["min_tokens"] = max(0, body["min_tokens"] - job.resume.tokens)
    if is_raw:
        if "top_logprobs" in body:
            body["logprobs"] = body.pop("top_logprobs")
        prompt = list(job.prompt_token_ids) or f"{job.prompt}{said}"
        return {name: body[name] for name in body if _is_of_text(job, name)} | {"prompt": prompt}
    body["messages"] = [turn_of(one, reasoning_word) for one in job.messages] or [
        {"role": "user", "content": job.prompt}
    ]
    if said:
        body["messages"].append({"role": "assistant", "content": said})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if job.wants_details:
        body["return_prompt_text"] = True
    return body


def _streaming(job: Job) -> dict[str, Any]:
    # vLLM tells probabilities of a prompt with a whole answer only.
    if "prompt_logprobs" in job.params:
        return {"stream": False}
    return {"stream": True, STREAM_OPTIONS: {"include_usage": True}}


def _asked(job: Job) -> dict[str, Any]:
    asked: dict[str, Any] = dict(job.params)
    asked.pop("is_thinking_token_budget_optional", None)
    if "extra_args" in asked:
        asked["vllm_xargs"] = asked.pop("extra_args")
    if job.wants_details:
        asked["return_token_ids"] = True
    if "logprobs" in job.params:
        asked |= {"logprobs": True, "top_logprobs": job.params["logprobs"]}
    if job.form is not None:
        asked |= job.form.as_openai()
    if job.tools:
        asked["tools"] = [tool.as_openai() for tool in job.tools]
        is_mode = job.tool_choice in (AUTO, NONE, REQUIRED)
        named = {"type": "function", "function": {"name": job.tool_choice}}
        asked["tool_choice"] = job.tool_choice if is_mode else named
        if not job.is_parallel:
            asked["parallel_tool_calls"] = False
    return asked


def options_of(job: Job) -> dict[str, Any]:
    """Returns how a prompt is made, in vLLM's words."""
    options = job.options
    asked: dict[str, Any] = {
        "chat_template_kwargs": options.chat_template_kwargs,
        "documents": options.documents,
        "add_generation_prompt": options.add_generation_prompt,
        "continue_final_message": options.continue_final_message or None,
        "add_special_tokens": options.add_special_tokens,
        "truncate_prompt_tokens": options.truncate_prompt_tokens,
        "reasoning_effort": options.reasoning_effort or None,
        "truncation_side": options.truncation_side or None,
        "max_tokens_per_query": options.max_tokens_per_query or None,
        "max_tokens_per_doc": options.max_tokens_per_document or None,
    }
    if options.continue_final_message and options.add_generation_prompt is None:
        asked["add_generation_prompt"] = False
    return {name: value for name, value in asked.items() if value is not None}


def _is_of_text(job: Job, name: str) -> bool:
    return name in _OF_TEXTS or name not in options_of(job)


def turn_of(message: Message, reasoning_word: str | None) -> dict[str, Any]:
    """Returns a turn of the conversation as the server has it.

    One that never told a reasoning is told none: many refuse what they do not know.
    """
    turn: dict[str, Any] = dict(message)
    if "parts" in turn:
        turn["content"] = turn.pop("parts")
    reasoning = turn.pop("reasoning", None)
    if reasoning is not None and reasoning_word is not None:
        turn[reasoning_word] = reasoning
    return turn

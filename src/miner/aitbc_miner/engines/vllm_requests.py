"""What a job asks of vLLM, as a request to vLLM's own server: so all of it means the same.

The request carries no conversation: see engines/vllm_prompts.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.tools import AUTO, REQUIRED, is_calling
from aitbc_miner.engines.vllm_refusals import refusing

# Parameters of a job that a request has under other names, or not at all.
_ANOTHER_NAME = {
    "logprobs",
    "logit_bias",
    "extra_args",
    "return_token_ids",
    "is_thinking_token_budget_optional",
}


def request_of(job: Job, *, is_chat: bool) -> Any:
    """Returns a ChatCompletionRequest. Raises BadRequest.

    `is_chat`: whether the prompt goes through a chat template.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    asked = _sampling(job) | _prompting(job, is_chat=is_chat) | _calling(job)
    if job.form is not None:
        asked |= job.form.as_openai()
    with refusing(job):
        return ChatCompletionRequest(model=job.model, messages=[], **asked)


def _sampling(job: Job) -> dict[str, Any]:
    params = job.params
    asked: dict[str, Any] = {
        name: value for name, value in params.items() if name not in _ANOTHER_NAME
    }
    if "logprobs" in params:
        asked |= {"logprobs": True, "top_logprobs": params["logprobs"]}
    if "logit_bias" in params:
        asked["logit_bias"] = {str(token): bias for token, bias in params["logit_bias"].items()}
    if "extra_args" in params:
        asked["vllm_xargs"] = params["extra_args"]
    return asked


def _prompting(job: Job, *, is_chat: bool) -> dict[str, Any]:
    options = job.options
    asked: dict[str, Any] = {
        "add_special_tokens": options.add_special_tokens,
        "truncate_prompt_tokens": options.truncate_prompt_tokens,
        "documents": options.documents,
        "chat_template_kwargs": options.chat_template_kwargs,
        "add_generation_prompt": options.add_generation_prompt,
        "reasoning_effort": options.reasoning_effort or None,
        "truncation_side": options.truncation_side or None,
    }
    if options.add_special_tokens is None and not is_chat:
        asked["add_special_tokens"] = True
    if options.continue_final_message:
        asked["continue_final_message"] = True
        if options.add_generation_prompt is None:
            asked["add_generation_prompt"] = False
    return {name: value for name, value in asked.items() if value is not None}


def _calling(job: Job) -> dict[str, Any]:
    if not is_calling(job):
        return {}
    is_mode = job.tool_choice in (AUTO, REQUIRED)
    tools = job.tools
    if job.tool_choice != AUTO:
        # A call that must be made is held to its schema in any case.
        tools = tuple(replace(tool, is_strict=True) for tool in tools)
    named = {"type": "function", "function": {"name": job.tool_choice}}
    return {
        "tools": [tool.as_openai() for tool in tools],
        "tool_choice": job.tool_choice if is_mode else named,
        "parallel_tool_calls": job.is_parallel,
    }

"""What answers cost, in OpenAI's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aitbc.v1 import jobs_pb2


def total_usage(jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
    """Returns the usage of one request: the answers share its prompt."""
    prompt = max((job.usage.prompt_tokens for job in jobs), default=0)
    completion = sum(job.usage.completion_tokens for job in jobs)
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if any(job.usage.HasField("cached_tokens") for job in jobs):
        cached = max(job.usage.cached_tokens for job in jobs)
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    if any(job.usage.HasField("reasoning_tokens") for job in jobs):
        reasoning = sum(job.usage.reasoning_tokens for job in jobs)
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


def usage_so_far(index: int, event: jobs_pb2.JobEvent, made: Counter[int]) -> dict[str, Any]:
    """Returns the usage of an answer up to an event, and counts it.

    The tokens of the prompt are known when the answer is whole.
    """
    if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
        return total_usage([event.job])
    made[index] += max(1, len(event.token_ids))
    return {"prompt_tokens": 0, "completion_tokens": made[index], "total_tokens": made[index]}


def usage_before(usage: dict[str, Any]) -> dict[str, Any]:
    """Returns the usage of an answer before anything of it was made. `usage`: a later one."""
    prompt = usage["prompt_tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": 0, "total_tokens": prompt}

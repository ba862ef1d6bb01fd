"""What answers cost, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aitbc.v1 import jobs_pb2


def total_usage(jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
    """Returns the usage of one request: the answers share its prompt."""
    prompt = max((job.usage.prompt_tokens for job in jobs), default=0)
    completion = sum(job.usage.completion_tokens for job in jobs)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }

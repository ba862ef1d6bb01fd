"""Holds a job against what its receipt says of it in plain words."""

from __future__ import annotations

from typing import Literal

from aitbc.v1 import jobs_pb2, receipts_pb2

_SAME = ("receipt_id", "job_id", "miner_id", "model", "attempt", "started_at", "completed_at")
_COUNTS: tuple[Literal["prompt_tokens", "completion_tokens"], ...] = (
    "prompt_tokens",
    "completion_tokens",
)


def problem_of_job(receipt: receipts_pb2.Receipt, job: jobs_pb2.Job) -> str | None:
    """Says what a job tells otherwise than its receipt, if it does."""
    for name in _SAME:
        if getattr(job, name) != getattr(receipt, name):
            return f"its {name} is not that of the receipt"
    if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
        return "it is not completed, and only completed jobs have receipts"
    for name in _COUNTS:
        is_told = job.usage.HasField(name)
        if is_told != receipt.HasField(name) or getattr(job.usage, name) != getattr(receipt, name):
            return f"its usage.{name} is not that of the receipt"
    prompts = (job.HasField("prompt"), job.messages, job.prompt_token_ids, job.inputs)
    if sum(map(bool, prompts)) > 1:
        return "it has more than one prompt"
    return None

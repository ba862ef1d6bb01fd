"""Holds a job, as the REST API shows it, against what its receipt says of it in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aitbc_client.contents import ANSWERED, ASKED, COUNTED, canonical

# What a job may have been asked, as it shows it.
PROMPTS = ("prompt", "messages", "prompt_token_ids", "inputs")
_SAME = ("receipt_id", "job_id", "miner_id", "model", "attempt", "started_at", "completed_at")
_COUNTS = ("prompt_tokens", "completion_tokens")
_COVERED = {*PROMPTS, *ASKED, *ANSWERED, *_SAME, "result", "status", "usage"}


def problem_of_job(body: Mapping[str, Any], job: Mapping[str, Any]) -> str | None:
    """Says what a job tells otherwise than the body of its receipt, if it does."""
    for name in _SAME:
        if not _is_same(body, job, name):
            return f"its {name} is not that of the receipt"
    if job.get("status") != "completed":
        return "it is not completed, and only completed jobs have receipts"
    usage = job.get("usage", {})
    for name in _COUNTS:
        if not _is_same(body, usage, name):
            return f"its usage.{name} is not that of the receipt"
    if sum(bool(job.get(name)) for name in PROMPTS) > 1:
        return "it has more than one prompt"
    return None


def uncovered_of(job: Mapping[str, Any]) -> Sequence[str]:
    """Returns what a job shows that no receipt says anything of."""
    names = [name for name in job if name not in _COVERED]
    names = [f"the values of {name}" if name in COUNTED else name for name in names]
    usage = job.get("usage")
    if isinstance(usage, Mapping):
        names += [f"usage.{name}" for name in usage if name not in _COUNTS]
    return names


def _is_same(body: Mapping[str, Any], job: Mapping[str, Any], name: str) -> bool:
    # As JSON: to Python, true is 1.
    return (name in body) == (name in job) and canonical(body.get(name)) == canonical(job.get(name))

"""Compares a receipt with what is kept of its job, which is all of it or nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from aitbc_server.domain.times import rfc3339
from aitbc_server.ledger.contents import salted_hash, whole_hash


class KeptText(NamedTuple):
    """A prompt or a result, and the salt that its hash was made with."""

    salt: bytes
    text: str
    # What is asked or answered beside it, as canonical JSON.
    beside: bytes | None


class KeptJob(NamedTuple):
    """A completed job as it is kept, in the terms of its receipt."""

    status: str | None
    client: str | None
    model: str | None
    miner_id: str | None
    attempt: int | None
    started_us: int | None
    finished_us: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    # None when it is not there, or cannot be read.
    prompt: KeptText | None
    result: KeptText | None


def problem_with(body: dict[str, Any], job: KeptJob | None, *, is_forgotten: bool) -> str | None:
    """Returns what is wrong with what is kept of a receipt's job, if anything is."""
    if job is None:
        return None if is_forgotten else "its job is missing, and was not forgotten"
    if is_forgotten:
        return "its job was forgotten, and is there"
    if job.status != "completed":
        return "its job is not completed"
    facts = {
        "client": job.client,
        "model": job.model,
        "miner_id": job.miner_id,
        "attempt": job.attempt,
        "started_at": rfc3339(job.started_us or 0),
        "completed_at": rfc3339(job.finished_us or 0),
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
    }
    for name, fact in facts.items():
        if body.get(name) != fact:
            return f"its job has another {name}"
    return _problem_with_text(body, "prompt", "request", job.prompt) or _problem_with_text(
        body, "result", "answer", job.result
    )


def _problem_with_text(
    body: dict[str, Any], name: str, whole: str, kept: KeptText | None
) -> str | None:
    if kept is None:
        return f"its job has no {name}"
    text_hash = salted_hash(kept.salt, kept.text)
    if text_hash.hex() != body[f"{name}_hash"]:
        return f"its job has another {name}"
    expected = body.get(f"{whole}_hash")
    if expected is None:
        return None  # receipts of version 1 cover the texts alone
    if kept.beside is None or whole_hash(kept.salt, text_hash, kept.beside).hex() != expected:
        return f"its job has another {whole}"
    return None

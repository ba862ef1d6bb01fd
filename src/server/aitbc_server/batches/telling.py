"""Writes the lines of a batch's output and error files, as OpenAI does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from aitbc.v1 import jobs_pb2
from aitbc_server.batches.parts import Told

# Why a line was not run to its end, where its batch has ended before.
EXPIRED = "batch_expired"
CANCELLED = "batch_cancelled"
_WHY = {
    EXPIRED: "This request could not be executed before the completion window expired.",
    CANCELLED: "This request was not executed: the batch was cancelled.",
}


def answer_line(
    batch_id: str, number: int, custom_id: str | None, told: Told, job_ids: Sequence[str]
) -> bytes:
    """Returns the line of a request that has an answer, good or bad."""
    response = {
        "status_code": told.status,
        # Beside a receipt, it finds the job.
        "request_id": ",".join(job_ids),
        "body": told.body,
        # As of a live call, where there are any.
        **({"headers": dict(told.headers)} if told.headers else {}),
    }
    return _line(batch_id, number, custom_id, response, None)


def fault_line(
    batch_id: str, number: int, custom_id: str | None, code: str, message: str | None = None
) -> bytes:
    """Returns the line of a request that has no answer."""
    error = {"code": code, "message": _WHY.get(code, "") if message is None else message}
    return _line(batch_id, number, custom_id, None, error)


def _line(batch_id: str, number: int, custom_id: str | None, response: Any, error: Any) -> bytes:
    line = {
        "id": f"batch_req_{batch_id.removeprefix('batch_')}{number:06d}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(line) + b"\n"


@dataclass(slots=True)
class Texts:
    """What a step adds to the files, and what it counts."""

    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    size: int = 0

    def add(self, text: bytes, *, is_answer: bool, jobs: Iterable[jobs_pb2.Job] = ()) -> None:
        """Adds a line."""
        (self.output if is_answer else self.errors).append(text)
        self.size += len(text)
        counted = list(jobs)
        # The answers of one request share its prompt.
        self.prompt_tokens += max((job.usage.prompt_tokens for job in counted), default=0)
        self.completion_tokens += sum(job.usage.completion_tokens for job in counted)

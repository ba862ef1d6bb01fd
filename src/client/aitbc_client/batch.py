"""Runs a file of prompts and writes a file of answers, and goes on where a run before it ended.

The input has one JSON object a line: `prompt` or `messages`, whose texts may come as text parts,
and optionally `model`, `params`, `priority`, `timeout_seconds` and `max_attempts`; `custom_id` and
other fields of the caller's own under `metadata` come back with the answer. The output has one line
for each job that ended, in the order in which they did, with `line`, the number of its input line
from 1. A line that is no job, or that is refused, fails alone: its line of the output has the
`error`.

Lines that the output has are skipped by a later run. Until all are answered, `OUTPUT.run` beside it
holds the name under which the others were submitted, so that a run that goes on is given the jobs
that the run before it made, and makes none twice.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from aitbc_client import operations
from aitbc_client.aio import AsyncClient
from aitbc_client.batch_lines import BatchFileError, Line, WrongLine, read_lines
from aitbc_client.errors import Conflict, InvalidRequest, LimitExceeded
from aitbc_client.models import Job, JobStatus
from aitbc_client.retrying import may_succeed_later


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    total: int
    # Lines that the output has, those of earlier runs included.
    done: int = 0
    # Those of them that did not complete.
    unsuccessful: int = 0


async def run_batch(
    client: AsyncClient,
    source: Path,
    target: Path,
    *,
    model: str | None = None,
    concurrency: int = 256,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Answers every line of `source` that `target` has no answer to; appends to `target`.

    `model` is for lines that name none; `concurrency` is how many jobs are under way at once. Jobs
    that fail are lines of the output too, and so are lines that are no jobs. Raises BatchFileError
    when no line is one, or the output is not one of a run; OSError and AitbcError. Run it again to
    go on.
    """
    lines, answered = list(read_lines(source, model)), _read_answers(target)
    if lines and all(isinstance(line, WrongLine) for line in lines):
        first = next(line for line in lines if isinstance(line, WrongLine))
        raise BatchFileError(f"line {first.number}: {first.problem}")
    progress = Progress(total=len(lines), done=len(answered))
    progress.unsuccessful = sum(status != JobStatus.COMPLETED for status in answered.values())
    on_progress(progress)
    remaining = iter([line for line in lines if line.number not in answered])
    note = target.with_name(target.name + ".run")
    name = _name_of_run(note)
    with _appending(target) as output:

        async def work() -> None:
            for line in remaining:
                answer = await _answered(client, line, name)
                output.write(json.dumps(answer, ensure_ascii=False) + "\n")
                output.flush()
                progress.done += 1
                progress.unsuccessful += answer["status"] != JobStatus.COMPLETED
                on_progress(progress)

        await _all_of([work() for _ in range(concurrency)])
    note.unlink()
    return progress


async def _answered(client: AsyncClient, line: Line | WrongLine, name: str) -> dict[str, Any]:
    """Returns what the output says of a line. Raises AitbcError when it may go better later."""
    if isinstance(line, WrongLine):
        return _refusal(line, "INVALID_LINE", line.problem)
    line.request.request_id = f"{name}-{line.number}"
    try:
        submitted = await client.call(operations.submit(line.request))
    except (Conflict, InvalidRequest, LimitExceeded) as error:
        if may_succeed_later(error):
            raise
        # The fault is the line's: it is wrong or too large, or was changed after it was submitted.
        return _refusal(line, error.error_code, str(error))
    return _answer(line, await client.wait(submitted.job_id))


def _refusal(line: Line | WrongLine, code: str, message: str) -> dict[str, Any]:
    error = {"code": code, "message": message}
    return {"line": line.number, **line.carried, "status": JobStatus.FAILED.value, "error": error}


async def _all_of(workers: list[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(worker)
    except* Exception as group:
        # One error is what the caller can act on; the others are mostly the same.
        raise group.exceptions[0] from None


def _name_of_run(note: Path) -> str:
    with suppress(FileExistsError):
        # Whole or not at all, whenever the process is killed.
        fresh = note.with_name(f"{note.name}.{os.getpid()}")
        fresh.write_text(uuid4().hex)
        try:
            os.link(fresh, note)
        finally:
            fresh.unlink()
    return note.read_text()


def _read_answers(target: Path) -> dict[int, str]:
    """Returns the status of each line that was answered; drops a last line that was cut short."""
    answered: dict[int, str] = {}
    with suppress(FileNotFoundError):
        raw = target.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            os.truncate(target, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                answer = json.loads(line)
                answered[answer["line"]] = answer["status"]
            except (ValueError, TypeError, KeyError) as error:
                raise BatchFileError(
                    f"{target}, line {number}: was not written by a batch run; name another output"
                ) from error
    return answered


def _appending(target: Path) -> TextIO:
    # Answers are private: nobody else reads them.
    return os.fdopen(
        os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8"
    )


def _answer(line: Line, job: Job) -> dict[str, Any]:
    answer: dict[str, Any] = {"line": line.number, **line.carried}
    answer |= {"job_id": job.job_id, "status": job.status.value, "model": job.model}
    if job.result is not None:
        answer["result"] = job.result
    if job.finish_reason:
        answer["finish_reason"] = job.finish_reason
    if job.usage:
        answer["usage"] = {
            "prompt_tokens": job.usage.prompt_tokens,
            "completion_tokens": job.usage.completion_tokens,
        }
    if job.receipt_id:
        answer["receipt_id"] = job.receipt_id
    if job.error:
        answer["error"] = {"code": job.error.code, "message": job.error.message}
    return answer

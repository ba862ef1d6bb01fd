"""Between stored values and protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2
from aitbc_server.dispatch.waiting import Wait, names_of
from aitbc_server.domain.jobs import AttemptRecord, JobRecord, JobStatus
from aitbc_server.domain.receipts import receipt_id_of
from aitbc_server.domain.tasks import Task
from aitbc_server.domain.times import Span
from aitbc_server.ledger.canonical import canonical

STATUS_TO_PROTO = {
    status: jobs_pb2.JobStatus.Value(f"JOB_STATUS_{status.name}") for status in JobStatus
}
STATUS_FROM_PROTO = {number: status for status, number in STATUS_TO_PROTO.items()}
TASK_TO_PROTO = {task: jobs_pb2.JobTask.Value(f"JOB_TASK_{task.name}") for task in Task}
TASK_FROM_PROTO = {number: task for task, number in TASK_TO_PROTO.items()}

# What clients and their APIs note of a job, which is nobody else's business.
NOT_FOR_MINERS: Final = ("api_notes", "user")

# What page tokens begin with; the id or place of the last item of the page before follows.
_AFTER = "at-"
_NO_PLACE = 2**62


def timestamp(micros: int) -> Timestamp:
    """Returns the Timestamp of microseconds since the Unix epoch."""
    made = Timestamp()
    set_timestamp(made, micros)
    return made


def set_timestamp(field: Timestamp, micros: int) -> None:
    """Sets a field to microseconds since the Unix epoch."""
    field.seconds, rest = divmod(micros, 1_000_000)
    field.nanos = rest * 1000


_OUTCOMES = {
    # Pending: it was to be tried again.
    JobStatus.PENDING: jobs_pb2.ATTEMPT_OUTCOME_FAILED,
    JobStatus.RUNNING: jobs_pb2.ATTEMPT_OUTCOME_RUNNING,
    JobStatus.COMPLETED: jobs_pb2.ATTEMPT_OUTCOME_COMPLETED,
    JobStatus.FAILED: jobs_pb2.ATTEMPT_OUTCOME_FAILED,
    JobStatus.CANCELLED: jobs_pb2.ATTEMPT_OUTCOME_CANCELLED,
}


def job_message(record: JobRecord) -> jobs_pb2.Job:
    """Returns a stored job as its owner sees it."""
    job = jobs_pb2.Job.FromString(record.spec)
    # What it becomes is told to its miner alone.
    job.ClearField("cache_salt")
    if record.details:
        job.MergeFromString(record.details)
    if record.result is not None:
        job.result = record.result
    _set_state(job, record)
    return job


def basic_message(record: JobRecord) -> jobs_pb2.Job:
    """Returns a stored job that was read without texts."""
    job = jobs_pb2.Job(job_id=record.job_id, model=record.model)
    set_timestamp(job.created_at, record.created_us)
    _set_state(job, record)
    return job


def _set_state(job: jobs_pb2.Job, record: JobRecord) -> None:
    """Tells what became of a job."""
    job.status = STATUS_TO_PROTO[record.status]
    job.attempt = record.attempt
    if record.status is not JobStatus.PENDING and record.miner_id:
        job.miner_id = record.miner_id
    if record.status is not JobStatus.PENDING and record.started_us is not None:
        set_timestamp(job.started_at, record.started_us)
    if record.cancel_requested_us is not None:
        set_timestamp(job.cancel_requested_at, record.cancel_requested_us)
    if record.finished_us is not None:
        set_timestamp(job.completed_at, record.finished_us)
    if record.has_receipt:
        job.receipt_id = receipt_id_of(record.job_id)
    if record.finish_reason is not None:
        job.finish_reason = record.finish_reason
    if record.prompt_tokens is not None:
        job.usage.prompt_tokens = record.prompt_tokens
    if record.completion_tokens is not None:
        job.usage.completion_tokens = record.completion_tokens
    if record.error_code is not None:
        job.error.code = record.error_code
        job.error.message = record.error_message or ""


def usage_details(usage: jobs_pb2.Usage) -> bytes:
    """Returns what a usage says that the store does not count, as a part of a serialised Job."""
    has_cached = usage.HasField("cached_tokens")
    if not usage.HasField("reasoning_tokens") and not usage.is_estimated and not has_cached:
        return b""
    told = jobs_pb2.Usage(is_estimated=usage.is_estimated)
    if has_cached:
        told.cached_tokens = usage.cached_tokens
    if usage.HasField("reasoning_tokens"):
        tokens = usage.reasoning_tokens
        if usage.HasField("completion_tokens"):
            # A part of them.
            tokens = min(tokens, usage.completion_tokens)
        told.reasoning_tokens = max(0, tokens)
    return jobs_pb2.Job(usage=told).SerializeToString()


def attempts_of(record: JobRecord) -> list[jobs_pb2.Attempt]:
    """Returns the attempts of a stored job that was read with them, and the one that runs."""
    attempts = [_attempt(attempt) for attempt in record.attempts]
    if record.status is JobStatus.RUNNING and record.started_us is not None:
        running = jobs_pb2.Attempt(
            attempt=record.attempt,
            miner_id=record.miner_id or "",
            started_at=timestamp(record.started_us),
            outcome=jobs_pb2.ATTEMPT_OUTCOME_RUNNING,
        )
        attempts.append(running)
    return attempts


def _attempt(record: AttemptRecord) -> jobs_pb2.Attempt:
    attempt = jobs_pb2.Attempt(
        attempt=record.attempt,
        miner_id=record.miner_id,
        started_at=timestamp(record.started_us),
        ended_at=timestamp(record.ended_us),
        outcome=_OUTCOMES[record.outcome],
    )
    if record.error_code is not None:
        attempt.error.code = record.error_code
        attempt.error.message = record.error_message or ""
    return attempt


def queue_message(job_id: str, wait: Wait) -> jobs_pb2.GetJobQueueResponse:
    """Returns why a job waits."""
    message = jobs_pb2.GetJobQueueResponse(
        job_id=job_id,
        status=STATUS_TO_PROTO[wait.status],
        explanation=wait.explanation,
    )
    if wait.reason is None:
        return message
    message.reason = jobs_pb2.WaitReason.Value(f"WAIT_REASON_{wait.reason.name}")
    if wait.jobs_ahead is not None:
        message.position, message.jobs_ahead = wait.jobs_ahead + 1, wait.jobs_ahead
    if wait.not_before_us is not None:
        set_timestamp(message.not_before, wait.not_before_us)
    if wait.expected_us is not None:
        set_timestamp(message.expected_start_at, wait.expected_us)
    message.able_miner_count = wait.able
    message.unable_miner_count = sum(wait.counts.values()) - wait.able
    message.able_miners.extend(_queue_miners(wait, able=True))
    message.unable_miners.extend(_queue_miners(wait, able=False))
    return message


def _queue_miners(wait: Wait, *, able: bool) -> list[jobs_pb2.QueueMiner]:
    return [
        jobs_pb2.QueueMiner(
            miner_id=miner_id, state=jobs_pb2.MinerState.Value(f"MINER_STATE_{state.name}")
        )
        for miner_id, state in names_of(wait, able=able)
    ]


def prompt_text(job: jobs_pb2.Job | jobs_pb2.SubmitJobRequest) -> str:
    """Returns the text that a receipt's `prompt_hash` is of.

    Of messages, tokens and inputs, their canonical JSON.
    """
    if job.messages:
        return canonical([_plain(message) for message in job.messages]).decode()
    if job.prompt_token_ids:
        return canonical(list(job.prompt_token_ids)).decode()
    if job.inputs:
        return canonical([_plain(one) for one in job.inputs]).decode()
    return job.prompt


def span_of(request: jobs_pb2.ListJobsRequest) -> Span:
    """Returns when the jobs of a list were stored."""
    return Span(
        _micros(request.created_after) if request.HasField("created_after") else None,
        _micros(request.created_before) if request.HasField("created_before") else None,
    )


def _micros(time: Timestamp) -> int:
    """Returns the first microsecond that is not before a time."""
    return time.seconds * 1_000_000 - (-time.nanos // 1000)


def page_token(last_id: str) -> str:
    """Returns the token of the page that comes after an item, by its id or place."""
    return f"{_AFTER}{last_id}"


def page_start(token: str) -> str | None:
    """Returns the item that a page comes after; None for the first.

    The rules of each list's `page_token` say which tokens are its own.
    """
    return token.removeprefix(_AFTER) or None


def _plain(message: Message) -> dict[str, Any]:
    # Texts, tokens and lists of messages are all that a message of a conversation or an input has.
    return {
        field.name: _plain_items(field, value) if field.is_repeated else value
        for field, value in message.ListFields()
    }


def _plain_items(field: FieldDescriptor, items: Iterable[Any]) -> list[Any]:
    return list(items) if field.message_type is None else [_plain(item) for item in items]


def place_token(place: int) -> str:
    """Returns the token of the page that comes after an item, by its place in the ledger."""
    return page_token(str(place))


def token_place(token: str) -> int:
    """Returns the place that a page comes before: for the first page, above all."""
    start = page_start(token)
    return _NO_PLACE if start is None else int(start)

"""Between stored values and protobuf messages."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2
from aitbc_server.dispatch.waiting import Wait, names_of
from aitbc_server.domain.jobs import AttemptRecord, JobRecord, JobStatus
from aitbc_server.domain.receipts import receipt_id_of
from aitbc_server.ledger.canonical import canonical

STATUS_TO_PROTO = {
    status: jobs_pb2.JobStatus.Value(f"JOB_STATUS_{status.name}") for status in JobStatus
}
STATUS_FROM_PROTO = {number: status for status, number in STATUS_TO_PROTO.items()}

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
    if record.details:
        job.MergeFromString(record.details)
    if record.has_receipt:
        job.receipt_id = receipt_id_of(record.job_id)
    if record.result is not None:
        job.result = record.result
        job.finish_reason = record.finish_reason or ""
    if record.prompt_tokens is not None:
        job.usage.prompt_tokens = record.prompt_tokens
    if record.completion_tokens is not None:
        job.usage.completion_tokens = record.completion_tokens
    if record.error_code is not None:
        job.error.code = record.error_code
        job.error.message = record.error_message or ""
    return job


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
    """Returns the text that a receipt's `prompt_hash` is of: of messages, their canonical JSON."""
    if job.messages:
        return canonical([_plain(message) for message in job.messages]).decode()
    return job.prompt


def prompt_of_spec(spec: bytes) -> str:
    """Returns that text of a job as it was stored. Raises ValueError."""
    try:
        return prompt_text(jobs_pb2.Job.FromString(spec))
    except DecodeError as error:
        raise ValueError("it is no job") from error


def page_token(last_id: str) -> str:
    """Returns the token of the page that comes after an item, by its id or place."""
    return f"{_AFTER}{last_id}"


def page_start(token: str) -> str | None:
    """Returns the item that a page comes after; None for the first.

    The rules of each list's `page_token` say which tokens are its own.
    """
    return token.removeprefix(_AFTER) or None


def _plain(message: Message) -> dict[str, Any]:
    # Texts and lists of messages are all that a message of a conversation has.
    return {
        field.name: [_plain(item) for item in value] if field.is_repeated else value
        for field, value in message.ListFields()
    }


def place_token(place: int) -> str:
    """Returns the token of the page that comes after an item, by its place in the ledger."""
    return page_token(str(place))


def token_place(token: str) -> int:
    """Returns the place that a page comes before: for the first page, above all."""
    start = page_start(token)
    return _NO_PLACE if start is None else int(start)

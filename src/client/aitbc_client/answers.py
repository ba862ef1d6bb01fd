"""Reads what a coordinator answers with."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2, miners_pb2
from aitbc_client.documents import document_of
from aitbc_client.models import Failure, Job, JobStatus, Miner, MinerStatus, Submitted, Usage

_JOB_STATUS = {
    number: JobStatus(name.removeprefix("JOB_STATUS_").lower())
    for name, number in jobs_pb2.JobStatus.items()
    if number
}
_MINER_STATUS = {
    number: MinerStatus(name.removeprefix("MINER_STATUS_").lower())
    for name, number in miners_pb2.MinerStatus.items()
    if number
}


def submitted_of(message: jobs_pb2.SubmitJobResponse) -> Submitted:
    """Reads a stored job's id."""
    return Submitted(
        job_id=message.job_id,
        status=_JOB_STATUS[message.status],
        created_at=time_of(message.created_at),
    )


def job_of(message: jobs_pb2.Job) -> Job:
    """Reads a job."""
    return Job(
        job_id=message.job_id,
        status=_JOB_STATUS[message.status],
        model=message.model,
        created_at=time_of(message.created_at),
        started_at=time_of(message.started_at) if message.HasField("started_at") else None,
        completed_at=time_of(message.completed_at) if message.HasField("completed_at") else None,
        result=message.result if message.HasField("result") else None,
        finish_reason=message.finish_reason or None,
        miner_id=message.miner_id or None,
        attempt=message.attempt,
        usage=_usage_of(message.usage) if message.HasField("usage") else None,
        receipt_id=message.receipt_id or None,
        error=(
            Failure(code=message.error.code, message=message.error.message)
            if message.HasField("error")
            else None
        ),
        prompt=message.prompt if message.HasField("prompt") else None,
        messages=tuple(document_of(turn) for turn in message.messages),
        reasoning=message.reasoning or None,
    )


def miner_of(message: miners_pb2.Miner) -> Miner:
    """Reads a miner."""
    return Miner(
        miner_id=message.miner_id,
        status=_MINER_STATUS[message.status],
        models=tuple(message.models),
        gpu=message.gpu_info.name or None,
        running_jobs=message.running_jobs,
        slots=message.max_outstanding_jobs if message.HasField("max_outstanding_jobs") else None,
        last_seen=time_of(message.last_seen) if message.HasField("last_seen") else None,
        agent_version=message.agent_version or None,
    )


def time_of(timestamp: Timestamp) -> datetime:
    """Reads a time."""
    return timestamp.ToDatetime(tzinfo=UTC)


def _usage_of(usage: jobs_pb2.Usage) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens if usage.HasField("prompt_tokens") else None,
        completion_tokens=usage.completion_tokens if usage.HasField("completion_tokens") else None,
        reasoning_tokens=usage.reasoning_tokens if usage.HasField("reasoning_tokens") else None,
    )

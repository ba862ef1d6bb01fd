"""What a client gets to see: plain values, with times as aware `datetime`s in UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import jobs_pb2, miners_pb2
from aitbc_client.documents import document_of


class JobStatus(StrEnum):
    """Where a job is in its life. The last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job can never change again."""
        return self not in (JobStatus.PENDING, JobStatus.RUNNING)


class Params(TypedDict, total=False):
    """How the model samples. What is absent is the engine's default."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: Sequence[str]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float


class Message(TypedDict):
    """One turn of a conversation. `role` is `system`, `user`, `assistant` or `tool`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a job took, where its miner reported them."""

    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job ended without a result."""

    # UPPER_SNAKE, for programs.
    code: str
    # Sentence for people.
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that is stored."""

    job_id: str
    status: JobStatus
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One inference job."""

    job_id: str
    status: JobStatus
    model: str
    created_at: datetime
    started_at: datetime | None
    # When it became final.
    completed_at: datetime | None
    # The model's answer. Set exactly when completed.
    result: str | None
    finish_reason: str | None
    # Miner of its present or last attempt, and the number of that attempt, from 1.
    miner_id: str | None
    attempt: int
    usage: Usage | None
    receipt_id: str | None
    error: Failure | None
    # What was asked: a prompt, or a conversation.
    prompt: str | None
    messages: tuple[Mapping[str, Any], ...]


class MinerStatus(StrEnum):
    """Whether a miner takes work."""

    ONLINE = "online"
    DRAINING = "draining"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miner:
    """One registered miner."""

    miner_id: str
    status: MinerStatus
    models: tuple[str, ...]
    gpu: str | None
    running_jobs: int
    # Jobs it takes at once; None for a miner that polls.
    slots: int | None
    last_seen: datetime | None
    agent_version: str | None


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
    )

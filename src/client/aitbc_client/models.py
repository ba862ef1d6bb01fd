"""What a client gets to see: plain values, with times as aware `datetime`s in UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict


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


class RepetitionDetection(TypedDict, total=False):
    """When an answer ends because it repeats itself: a pattern of tokens, so many times."""

    max_pattern_size: int
    min_pattern_size: int
    min_count: int


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
    logprobs: int
    min_tokens: int
    ignore_eos: bool
    stop_token_ids: Sequence[int]
    include_stop_str_in_output: bool
    bad_words: Sequence[str]
    allowed_token_ids: Sequence[int]
    # By token.
    logit_bias: Mapping[int, float]
    skip_special_tokens: bool
    spaces_between_special_tokens: bool
    prompt_logprobs: int
    return_token_ids: bool
    # The text of a JSON object.
    extra_args: str
    thinking_token_budget: int
    # Has a miner answer all the same that cannot bound the reasoning of its model.
    is_thinking_token_budget_optional: bool
    repetition_detection: RepetitionDetection


class Message(TypedDict):
    """One turn of a conversation. `role` is `system`, `user`, `assistant` or `tool`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a job took, where its miner reported them."""

    prompt_tokens: int | None
    completion_tokens: int | None
    # Of these, those of the reasoning; None when there was none.
    reasoning_tokens: int | None = None


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
    # What the model thought before it answered, where its miner tells it apart.
    reasoning: str | None = None


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


class EventType(StrEnum):
    """What an event tells."""

    #: The job waits or runs: `job` is set.
    STATUS = "status"
    #: More of the answer, `text`, or of the reasoning before it, `reasoning`.
    DELTA = "delta"
    #: The text and the reasoning before are void: another attempt began anew.
    RESTARTED = "restarted"
    #: The job is final: `job` is set, without its result, which the texts are.
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One event of a job's stream."""

    type: EventType
    # Names the place after it, for a reader that comes back.
    event_id: str
    text: str
    # Bytes of UTF-8 of the answer up to here, the text included.
    offset: int
    job: Job | None
    # More of what the model thinks before it answers.
    reasoning: str | None = None

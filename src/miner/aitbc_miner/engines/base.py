"""What an engine is: the seam between the work stream and whatever generates text."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypedDict


class Params(TypedDict, total=False):
    """Sampling that the client asked for. What is absent is the engine's to choose."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: list[str]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Resume:
    """The beginning of an answer, from an attempt on another miner."""

    text: str
    # Tokens that the text stands for.
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an engine is asked to answer: one prompt or one conversation."""

    # Name of this attempt, unique among all that an engine ever runs.
    request_id: str
    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    params: Params
    # Text to go on from, which no chunk of the answer repeats. Set only for an engine that can.
    resume: Resume | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. The one with a finish reason is the last."""

    text: str = ""
    # Tokens that the text stands for.
    tokens: int = 0
    # `stop` or `length`.
    finish_reason: str | None = None
    # Tokens of the prompt without a resumed text, in the last chunk at the latest, when the engine
    # knows.
    prompt_tokens: int | None = None
    # Exact tokens of the whole answer, when the engine knows better than the sum of `tokens`.
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """How busy an engine is. What is None is unknown."""

    # Jobs given to it that it has not begun.
    waiting_jobs: int | None = None
    # Share of the KV cache in use, 0 to 1.
    kv_cache_usage: float | None = None


# A stream of chunks, or the one chunk that is the whole answer when it is at hand: an engine that
# need not wait costs no task.
Answer = AsyncGenerator[Chunk, None] | Chunk


class Engine(Protocol):
    """Generates text for one or more models."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names under which it serves."""

    @property
    def slots(self) -> int:
        """Jobs that it runs well at once. Known after `start`."""

    async def start(self) -> None:
        """Makes it ready to answer. Raises Misconfigured when an option of it is wrong."""

    def generate(self, job: Job) -> Answer:
        """Answers a job of one of its models.

        Raises an EngineError, here or from the iterator. A cancelled or closed iterator stops the
        generation.
        """

    def can_resume(self, job: Job) -> bool:
        """Says whether it can go on from the text that the job is to be resumed from."""

    def load(self) -> EngineLoad:
        """Says how busy it is. Raises EngineDead when it can serve no more."""

    async def close(self) -> None:
        """Frees what it holds."""

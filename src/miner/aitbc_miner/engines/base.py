"""What an engine is: the seam between the work stream and whatever generates text."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol, Required, TypedDict


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
    # Of how many of the likeliest tokens the log probability is asked for at each place.
    logprobs: int


class Message(TypedDict, total=False):
    """One turn of a conversation, as the OpenAI API and chat templates have it."""

    role: Required[str]
    content: Required[str]
    name: str
    tool_call_id: str
    tool_calls: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask to have called."""

    name: str
    description: str
    # JSON Schema of its arguments.
    parameters: dict[str, Any]
    # Whether they are held to it also where the model may call as it likes.
    is_strict: bool = False

    def as_openai(self) -> dict[str, Any]:
        """Returns it as the OpenAI API and chat templates have it."""
        function: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        if self.is_strict:
            function["strict"] = True
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A part of a call that the model asks for."""

    # Which call of the answer, from 0 without gaps.
    index: int
    # Name of the call and of its function, in its first part.
    call_id: str = ""
    name: str = ""
    # More of its arguments: JSON, unless the model wrote something else.
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Logprob:
    """How likely a token was, and the likeliest ones at its place."""

    token: str
    logprob: float
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """The beginning of an answer, from an attempt on another miner."""

    text: str
    # Tokens that the text stands for.
    tokens: int
    # How likely these were, when the job asks.
    logprobs: tuple[Logprob, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Says whether these are the tokens of the text, no more and no fewer."""
        tokens = [one.token for one in self.logprobs]
        # One without a text is the beginning of a character, which is generated again.
        return "".join(tokens) == self.text and (not tokens or tokens[-1] != "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an engine is asked to answer: one prompt or one conversation."""

    # Name of this attempt, unique among all that an engine ever runs.
    request_id: str
    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    params: Params
    # Whether the prompt goes to the model without a chat template.
    is_raw: bool = False
    # JSON Schema that holds the answer; an empty one holds it to any JSON object.
    json_schema: dict[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    # `auto`, `none`, `required`, or the name of the tool to call.
    tool_choice: str = "auto"
    # Whether the answer may ask for several calls.
    is_parallel: bool = True
    # Text to go on from, which no chunk of the answer repeats. Set only for an engine that can.
    resume: Resume | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. The one with a finish reason is the last."""

    text: str = ""
    # Tokens that the text stands for.
    tokens: int = 0
    # `stop`, `length` or `tool_calls`.
    finish_reason: str | None = None
    # Tokens of the prompt without a resumed text, in the last chunk at the latest, when the engine
    # knows.
    prompt_tokens: int | None = None
    # More of the calls that the model asks for.
    tool_calls: tuple[ToolCallPart, ...] = ()
    # Of the tokens of this chunk, when they were asked for.
    logprobs: tuple[Logprob, ...] = ()
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

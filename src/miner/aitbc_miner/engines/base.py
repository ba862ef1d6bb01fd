"""What an engine is: the seam between the work stream and whatever generates text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Required, TypedDict

from aitbc_miner.engines.tasks import Input, Made, ModelInfo, Task


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
    min_tokens: int
    ignore_eos: bool
    stop_token_ids: list[int]
    include_stop_str_in_output: bool
    bad_words: list[str]
    allowed_token_ids: list[int]
    # By token.
    logit_bias: dict[int, float]
    skip_special_tokens: bool
    spaces_between_special_tokens: bool
    # As `logprobs`, of the tokens of the prompt.
    prompt_logprobs: int
    # Whether the tokens of the prompt and of the answer are to be told.
    return_token_ids: bool
    # What only the engine knows.
    extra_args: dict[str, Any]
    # Tokens that the model may reason with, and whether an engine may pass it over that cannot tell
    # the reasoning from the answer.
    thinking_token_budget: int
    is_thinking_token_budget_optional: bool
    # When an answer repeats itself, in vLLM's words.
    repetition_detection: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """How the prompt is made of the conversation. What is absent is the engine's to choose."""

    # Variables of the chat template.
    chat_template_kwargs: dict[str, Any] | None = None
    # For the chat template.
    documents: list[dict[str, str]] | None = None
    # Whether the prompt ends where the assistant begins to speak.
    add_generation_prompt: bool | None = None
    # Whether the answer goes on with the last message.
    continue_final_message: bool = False
    # Whether the tokenizer adds its own.
    add_special_tokens: bool | None = None
    # Tokens of the prompt that are kept; -1 for as many as the context takes.
    truncate_prompt_tokens: int | None = None
    # In the model's words.
    reasoning_effort: str = ""
    # From which side tokens are taken away, `left` or `right`; "" is the engine's to choose.
    truncation_side: str = ""
    # Tokens of a query and of a document that a score is made of; 0 is all.
    max_tokens_per_query: int = 0
    max_tokens_per_document: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What an answer is held to while it is generated: one of these, or else any JSON object."""

    # JSON Schema.
    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    choices: tuple[str, ...] | None = None
    # In EBNF, as the engine takes it.
    grammar: str | None = None
    # Free text with parts that schemas describe, as vLLM has it.
    structural_tag: dict[str, Any] | None = None

    def as_openai(self) -> dict[str, Any]:
        """Returns it as fields of a request: OpenAI's where it has some, else vLLM's."""
        if self.structural_tag is not None:
            return {"response_format": {**self.structural_tag, "type": "structural_tag"}}
        if self.json_schema is not None:
            described = {"name": "answer", "schema": self.json_schema}
            return {"response_format": {"type": "json_schema", "json_schema": described}}
        if self.regex is not None:
            return {"structured_outputs": {"regex": self.regex}}
        if self.choices is not None:
            return {"structured_outputs": {"choice": list(self.choices)}}
        if self.grammar is not None:
            return {"structured_outputs": {"grammar": self.grammar}}
        return {"response_format": {"type": "json_object"}}


class Message(TypedDict, total=False):
    """One turn of a conversation, as the OpenAI API and chat templates have it."""

    role: Required[str]
    # Its texts alone, when it has other parts.
    content: Required[str]
    # All of its parts, when some are no texts.
    parts: list[dict[str, Any]]
    name: str
    tool_call_id: str
    tool_calls: list[dict[str, Any]]
    # What the assistant thought before it spoke.
    reasoning: str


# Schema of a tool without one.
_NO_ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask to have called."""

    name: str
    description: str
    # JSON Schema of its arguments; None when it takes none.
    parameters: dict[str, Any] | None
    # Whether they are held to it also where the model may call as it likes; None: not said.
    is_strict: bool | None = None

    def as_openai(self) -> dict[str, Any]:
        """Returns it as the OpenAI API has it."""
        parameters = _NO_ARGUMENTS if self.parameters is None else self.parameters
        return self._function(self.description, parameters)

    def as_in_templates(self) -> dict[str, Any]:
        """Returns it as vLLM gives it to chat templates, which may show all of it to the model."""
        return self._function(self.description or None, self.parameters)

    def _function(
        self, description: str | None, parameters: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.name, "description": description}
        function["parameters"] = parameters
        if self.is_strict is not None:
            function["strict"] = self.is_strict
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
    # The token's bytes, where its text does not tell them: it is a part of a character.
    token_bytes: bytes = b""
    # Its id, and its place among all that might have stood there, from 1, where that is known.
    token_id: int | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDetails:
    """The prompt as the model was given it."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    # How likely its tokens were, when that was asked for; 0 for the first one.
    logprobs: tuple[Logprob, ...] = ()


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
    """What an engine is asked to answer: one prompt, as a text or tokens, or one conversation."""

    # Name of this attempt, unique among all that an engine ever runs.
    request_id: str
    model: str
    # What is asked of the model, and of which inputs if not to generate.
    task: Task = Task.GENERATE
    inputs: tuple[Input, ...] = ()
    # Numbers that a vector is cut to.
    dimensions: int | None = None
    # Whether the model's pooling ends with its activation; None is as the model has it.
    use_activation: bool | None = None
    prompt: str | None = None
    prompt_token_ids: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()
    params: Params
    options: PromptOptions = PromptOptions()
    # Whether the prompt goes to the model without a chat template.
    is_raw: bool = False
    # A call of a tool is held to the tool's own schema instead.
    form: Form | None = None
    tools: tuple[Tool, ...] = ()
    # `auto`, `none`, `required`, or the name of the tool to call.
    tool_choice: str = "auto"
    # Whether the answer may ask for several calls.
    is_parallel: bool = True
    # Apart from whose cached prompts this one is kept, by an engine that has a cache.
    cache_salt: str = ""
    # Text to go on from, which no chunk of the answer repeats. Set only for an engine that can.
    resume: Resume | None = None

    @property
    def wants_details(self) -> bool:
        """Says whether it asks what its prompt was in tokens."""
        return "prompt_logprobs" in self.params or self.params.get("return_token_ids", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. The one with a finish reason is the last."""

    text: str = ""
    # What the model thinks before it answers, where that is told apart from the text.
    reasoning: str = ""
    # Tokens that the text and the reasoning stand for.
    tokens: int = 0
    # `stop`, `length`, `tool_calls`, `content_filter` or `repetition`. Other words for them are
    # understood, and one that nobody knows is a `stop`: see engines/border.py.
    finish_reason: str | None = None
    # Tokens of the prompt without a resumed text, in the last chunk at the latest, when the engine
    # knows.
    prompt_tokens: int | None = None
    # More of the calls that the model asks for.
    tool_calls: tuple[ToolCallPart, ...] = ()
    # Of the tokens of this chunk, when they were asked for.
    logprobs: tuple[Logprob, ...] = ()
    # Those tokens, when they were asked for.
    token_ids: tuple[int, ...] = ()
    # The prompt, in one of the chunks, when that was asked for.
    prompt_details: PromptDetails | None = None
    # What of `stop`, or of `stop_token_ids`, ended the answer, in the last chunk.
    stop_string: str = ""
    stop_token_id: int | None = None
    # Tokens of the prompt that the engine had in its cache, when it knows.
    cached_tokens: int | None = None
    # Exact tokens of the whole answer and its reasoning, when the engine knows better than the sum
    # of `tokens`.
    completion_tokens: int | None = None
    # Exact tokens of the whole reasoning, in the last chunk, when the engine knows better.
    reasoning_tokens: int | None = None
    # Whether the counts of the whole answer are a guess, in the last chunk.
    is_estimated: bool = False

    def without_answer(self) -> Chunk:
        """Returns what it tells of the prompt, for a job that asks for no tokens of an answer."""
        return Chunk(
            finish_reason="length" if self.finish_reason is not None else None,
            prompt_tokens=self.prompt_tokens,
            prompt_details=self.prompt_details,
            cached_tokens=self.cached_tokens,
        )


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

        Raises an EngineError, here or from the iterator; anything else that is raised ends the job
        too, and nothing but the job. A cancelled or closed iterator stops the generation.
        """

    async def perform(self, job: Job) -> Made:
        """Does what a job asks that asks not to generate: one of the tasks that `describe` names.

        Raises as `generate` does. When it is cancelled, the work stops.
        """

    def describe(self, model: str) -> ModelInfo:
        """Says what may be asked of one of its models. Known after `start`."""

    def can_resume(self, job: Job) -> bool:
        """Says whether it can go on from the text that the job is to be resumed from."""

    def load(self) -> EngineLoad:
        """Says how busy it is. Raises EngineDead when it can serve no more."""

    async def close(self) -> None:
        """Frees what it holds."""

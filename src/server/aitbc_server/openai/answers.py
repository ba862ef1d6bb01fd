"""What is answered, for the document; a test holds real answers against it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from aitbc_server.openai.schema import Several

Logprobs = dict[str, Any]
# By the ids of tokens.
PromptLogprobs = dict[str, Any]
StopReason = str | int | None


class Answer(BaseModel):
    """An object of an answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler(core)
        # Readers pass over what a newer server adds.
        handler.resolve_ref_schema(made).pop("additionalProperties", None)
        return made


class ErrorDetail(Answer):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failure(Answer):
    """What every call answers that does not succeed."""

    error: ErrorDetail


class Usage(Answer):
    """Tokens taken."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    # Absent when there was no reasoning.
    completion_tokens_details: dict[str, int] | None = None
    # Absent when the engine does not say what it had in its cache.
    prompt_tokens_details: dict[str, int] | None = None


class AnswerFunction(Answer):
    """What a call calls, and with what: a JSON text."""

    name: str
    arguments: str


class AnswerCustom(Answer):
    """What a call of a custom tool calls, and with what: a free text."""

    name: str
    input: str


class AnswerCall(Answer):
    """A call that the model asks for."""

    id: str
    type: Literal["function", "custom"]
    # One of them, as the type says.
    function: AnswerFunction | None = None
    custom: AnswerCustom | None = None


class AnswerMessage(Answer):
    """What the model said."""

    # `assistant`, unless the prompt does not end where that begins to speak.
    role: str
    content: str | None
    refusal: str | None
    tool_calls: Several[AnswerCall] = ()
    # What the model thought before, in DeepSeek's word and in vLLM's; absent when it did not.
    reasoning_content: str = ""
    reasoning: str = ""


class ChatChoice(Answer):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: str
    # The string of `stop`, or the token of `stop_token_ids`, that ended the answer.
    stop_reason: StopReason
    # When `return_token_ids` asked; null for an answer whose reasoning is not told.
    token_ids: list[int] | None = None


class ChatCompletion(Answer):
    """The answers of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    # When `prompt_logprobs`, `return_token_ids` and `return_prompt_text` asked.
    prompt_logprobs: list[PromptLogprobs | None] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None


class FunctionDelta(Answer):
    """More of what a call calls."""

    name: str | None = None
    arguments: str | None = None


class CustomDelta(Answer):
    """More of what a call of a custom tool calls."""

    name: str | None = None
    input: str | None = None


class CallDelta(Answer):
    """More of a call that the model asks for."""

    index: int
    id: str | None = None
    type: Literal["function", "custom"] | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class Delta(Answer):
    """More of an answer."""

    role: str | None = None
    content: str | None = None
    tool_calls: Several[CallDelta] = ()
    reasoning_content: str = ""
    reasoning: str = ""


class ChunkChoice(Answer):
    """More of one of the answers."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: str | None
    # Of the last one.
    stop_reason: StopReason = None
    # When `return_token_ids` asked.
    token_ids: list[int] | None = None


class ChatCompletionChunk(Answer):
    """One event of a chat's stream. The last one's data is `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    # Of the last one.
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None


class TextChoice(Answer):
    """One of the continuations, or more of it."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: str | None
    # The string of `stop`, or the token of `stop_token_ids`, that ended it.
    stop_reason: StopReason = None
    # When `return_token_ids` and `prompt_logprobs` asked; those of the prompt come last.
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[PromptLogprobs | None] | None = None


class TextCompletion(Answer):
    """The continuations of prompts, or one event of their stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class Model(Answer):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    # Of an adapter, the model that it adapts.
    parent: str | None
    # Tokens that a prompt and its answer may have together; null when no miner says.
    max_model_len: int | None
    permission: list[dict[str, Any]]


class ModelList(Answer):
    """Models."""

    object: Literal["list"]
    data: list[Model]


class ResponseUsage(Answer):
    """Tokens taken."""

    input_tokens: int
    # How many of them the engine had in its cache.
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseError(Answer):
    """Why there is no answer."""

    code: str
    message: str


class Response(Answer):
    """A response: a job under another name."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: ResponseError | None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    presence_penalty: float
    frequency_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled", "auto"]
    usage: ResponseUsage | None
    user: str | None


class InputTokenCount(Answer):
    """How many tokens a response would begin with."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ItemList(Answer):
    """A page of items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(Answer):
    """What became of a response."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ResponseEvent(BaseModel):
    """One event of a response's stream; the other fields depend on its type."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    sequence_number: int


class ReadUsage(Answer):
    """Tokens read, where none is generated."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class Embedding(Answer):
    """The vector of one input: numbers, or the Base64 of them as little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Answer):
    """The vectors of all inputs, in their order."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Embedding]
    usage: ReadUsage


class Score(Answer):
    """How well one pair fits."""

    object: Literal["score"]
    index: int
    score: float


class ScoreList(Answer):
    """The scores of all pairs, in their order."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: ReadUsage


class RankedDocument(Answer):
    """A document."""

    text: str


class Ranked(Answer):
    """A document in its place."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class Ranking(Answer):
    """The documents, the one that fits best first."""

    id: str
    model: str
    usage: ReadUsage
    results: list[Ranked]


class Tokenized(Answer):
    """Tokens, and how many a prompt and its answer may have."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Answer):
    """The text of tokens."""

    prompt: str


class Version(Answer):
    """The version of the server."""

    version: str


class Pong(Answer):
    """Nothing: the status says all."""


class Load(Answer):
    """How busy the server is."""

    server_load: int

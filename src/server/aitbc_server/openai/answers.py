"""What is answered, for the document; a test holds real answers against it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from aitbc_server.openai.schema import Several

Logprobs = dict[str, Any]


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


class AnswerFunction(Answer):
    """What a call calls, and with what: a JSON text."""

    name: str
    arguments: str


class AnswerCall(Answer):
    """A call that the model asks for."""

    id: str
    type: Literal["function"]
    function: AnswerFunction


class AnswerMessage(Answer):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: Several[AnswerCall] = ()


class ChatChoice(Answer):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(Answer):
    """The answers of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class FunctionDelta(Answer):
    """More of what a call calls."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(Answer):
    """More of a call that the model asks for."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(Answer):
    """More of an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: Several[CallDelta] = ()


class ChunkChoice(Answer):
    """More of one of the answers."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: str | None


class ChatCompletionChunk(Answer):
    """One event of a chat's stream. The last one's data is `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class TextChoice(Answer):
    """One of the continuations, or more of it."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: str | None


class TextCompletion(Answer):
    """The continuations of prompts, or one event of their stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None


class Model(Answer):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    # Of an adapter, the model that it adapts; absent otherwise.
    parent: str = ""


class ModelList(Answer):
    """Models."""

    object: Literal["list"]
    data: list[Model]


class ResponseUsage(Answer):
    """Tokens taken."""

    input_tokens: int
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
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool = False
    error: ResponseError | None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: str | None
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None


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

"""What is answered, for the document; a test holds real answers against it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from aitbc_server.openai.answers import Answer


class ErrorDetail(Answer):
    """What is wrong."""

    type: str
    message: str
    # `error_code`: the code of the coordinator's own API.
    details: dict[str, str] | None = None


class Failure(Answer):
    """What every call answers that does not succeed."""

    type: Literal["error"]
    error: ErrorDetail
    request_id: str


class Usage(Answer):
    """Tokens taken."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    # Absent when there was no reasoning.
    output_tokens_details: dict[str, int] | None = None


class Message(Answer):
    """What the model said."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
    stop_sequence: str | None
    usage: Usage


class MessageEvent(BaseModel):
    """One event of a message's stream; the other fields depend on its type."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    ]


class ModelInfo(Answer):
    """A model."""

    type: Literal["model"]
    id: str
    display_name: str
    # That of every model: nobody knows when one was made.
    created_at: str
    lifecycle: Literal["active"]
    # Tokens that a prompt and its answer may have together, where its miners say so.
    max_input_tokens: int | None
    max_tokens: int | None


class ModelPage(Answer):
    """A page of the models that are served now, by their names."""

    data: list[ModelInfo]
    first_id: str | None
    last_id: str | None
    # Beyond this page, in the direction that was asked for.
    has_more: bool


class TokenCount(Answer):
    """How many tokens a prompt has."""

    input_tokens: int

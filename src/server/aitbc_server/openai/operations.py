"""The operations of the API: what is where, read by the application and by the document."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel

from aitbc_server.openai import answers
from aitbc_server.openai.chat import ChatRequest
from aitbc_server.openai.completions import CompletionRequest
from aitbc_server.openai.responses import ResponseRequest


class Operation(NamedTuple):
    """One operation."""

    # OpenAI's own name of it.
    name: str
    summary: str
    http_method: str
    path: str
    answer: type[BaseModel]
    request: type[BaseModel] | None = None
    # One event of the answer as a stream, where there is one.
    event: type[BaseModel] | None = None
    # Whether it makes or reads jobs.
    has_jobs: bool = True


OPERATIONS = (
    Operation(
        "createChatCompletion",
        "Answers a conversation",
        "POST",
        "/v1/chat/completions",
        answers.ChatCompletion,
        ChatRequest,
        answers.ChatCompletionChunk,
    ),
    Operation(
        "createCompletion",
        "Continues a prompt as it is",
        "POST",
        "/v1/completions",
        answers.TextCompletion,
        CompletionRequest,
        answers.TextCompletion,
    ),
    Operation(
        "listModels",
        "Lists the models that are served now",
        "GET",
        "/v1/models",
        answers.ModelList,
        has_jobs=False,
    ),
    Operation(
        "retrieveModel",
        "Gets a model that is served now",
        "GET",
        "/v1/models/{model}",
        answers.Model,
        has_jobs=False,
    ),
    Operation(
        "createResponse",
        "Answers a conversation as a response, which is kept: at once, or in the background",
        "POST",
        "/v1/responses",
        answers.Response,
        ResponseRequest,
        answers.ResponseEvent,
    ),
    Operation(
        "getResponse",
        "Gets a response as it is now, or follows it",
        "GET",
        "/v1/responses/{response_id}",
        answers.Response,
        event=answers.ResponseEvent,
    ),
    Operation(
        "deleteResponse",
        "Deletes a response that has ended",
        "DELETE",
        "/v1/responses/{response_id}",
        answers.DeletedResponse,
    ),
    Operation(
        "cancelResponse",
        "Cancels a response that is not complete",
        "POST",
        "/v1/responses/{response_id}/cancel",
        answers.Response,
    ),
)

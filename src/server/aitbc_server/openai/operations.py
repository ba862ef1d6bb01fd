"""The operations of the API: what is where, read by the application and by the document."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel

from aitbc_server.openai import answers, batch_answers
from aitbc_server.openai.batches import BatchRequest
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.completion_request import CompletionRequest
from aitbc_server.openai.embeddings import EmbeddingRequest
from aitbc_server.openai.input_tokens import InputTokensRequest
from aitbc_server.openai.query import (
    BatchesQuery,
    FilesQuery,
    ItemsQuery,
    ModelsQuery,
    Query,
    ResponseQuery,
)
from aitbc_server.openai.response_request import ResponseRequest
from aitbc_server.openai.scores import RerankRequest, ScoreRequest
from aitbc_server.openai.tokens import DetokenizeRequest, TokenizeRequest


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
    # What its query may say.
    query: type[Query] = Query
    # Whether it makes or reads jobs.
    has_jobs: bool = True
    # Whether it is about files and batches, which are their owner's.
    is_of_files: bool = False
    # Whether its request is a form with a file, and its answer a file's content.
    is_upload: bool = False
    is_download: bool = False


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
        query=ModelsQuery,
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
        "countInputTokens",
        "Counts the tokens that a response would begin with",
        "POST",
        "/v1/responses/input_tokens",
        answers.InputTokenCount,
        InputTokensRequest,
    ),
    Operation(
        "getResponse",
        "Gets a response as it is now, or follows it",
        "GET",
        "/v1/responses/{response_id}",
        answers.Response,
        event=answers.ResponseEvent,
        query=ResponseQuery,
    ),
    Operation(
        "listInputItems",
        "Lists what a response was asked",
        "GET",
        "/v1/responses/{response_id}/input_items",
        answers.ItemList,
        query=ItemsQuery,
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
    Operation(
        "createEmbedding",
        "Makes a vector of each input",
        "POST",
        "/v1/embeddings",
        answers.EmbeddingList,
        EmbeddingRequest,
    ),
    *(
        Operation(
            name,
            "Orders documents by how well they fit a query",
            "POST",
            path,
            answers.Ranking,
            RerankRequest,
        )
        for name, path in (
            ("rerankV1", "/v1/rerank"),
            ("rerank", "/rerank"),
            ("rerankV2", "/v2/rerank"),
        )
    ),
    *(
        Operation(
            name,
            "Says how well texts fit each other",
            "POST",
            path,
            answers.ScoreList,
            ScoreRequest,
        )
        for name, path in (("scoreV1", "/v1/score"), ("score", "/score"))
    ),
    Operation(
        "tokenize",
        "Makes tokens of a prompt or a conversation",
        "POST",
        "/tokenize",
        answers.Tokenized,
        TokenizeRequest,
    ),
    Operation(
        "detokenize",
        "Makes a text of tokens",
        "POST",
        "/detokenize",
        answers.Detokenized,
        DetokenizeRequest,
    ),
    Operation(
        "showVersion",
        "Tells the version of the server",
        "GET",
        "/version",
        answers.Version,
        has_jobs=False,
    ),
    *(
        Operation(
            name, "Answers while the server serves", method, "/ping", answers.Pong, has_jobs=False
        )
        for name, method in (("ping", "GET"), ("postPing", "POST"))
    ),
    Operation(
        "getLoad",
        "Tells how many jobs wait or run",
        "GET",
        "/load",
        answers.Load,
        has_jobs=False,
    ),
    Operation(
        "createFile",
        "Uploads a file for a batch",
        "POST",
        "/v1/files",
        batch_answers.File,
        has_jobs=False,
        is_of_files=True,
        is_upload=True,
    ),
    Operation(
        "listFiles",
        "Lists files",
        "GET",
        "/v1/files",
        batch_answers.FileList,
        query=FilesQuery,
        has_jobs=False,
        is_of_files=True,
    ),
    Operation(
        "retrieveFile",
        "Gets what is known of a file",
        "GET",
        "/v1/files/{file_id}",
        batch_answers.File,
        has_jobs=False,
        is_of_files=True,
    ),
    Operation(
        "deleteFile",
        "Deletes a file",
        "DELETE",
        "/v1/files/{file_id}",
        batch_answers.DeletedFile,
        has_jobs=False,
        is_of_files=True,
    ),
    Operation(
        "downloadFile",
        "Gets the content of a file",
        "GET",
        "/v1/files/{file_id}/content",
        batch_answers.File,
        has_jobs=False,
        is_of_files=True,
        is_download=True,
    ),
    Operation(
        "createBatch",
        "Runs the requests of a file",
        "POST",
        "/v1/batches",
        batch_answers.Batch,
        BatchRequest,
        has_jobs=False,
        is_of_files=True,
    ),
    Operation(
        "listBatches",
        "Lists batches",
        "GET",
        "/v1/batches",
        batch_answers.BatchList,
        query=BatchesQuery,
        has_jobs=False,
        is_of_files=True,
    ),
    Operation(
        "retrieveBatch",
        "Gets a batch",
        "GET",
        "/v1/batches/{batch_id}",
        batch_answers.Batch,
        has_jobs=False,
        is_of_files=True,
    ),
    Operation(
        "cancelBatch",
        "Cancels a batch",
        "POST",
        "/v1/batches/{batch_id}/cancel",
        batch_answers.Batch,
        has_jobs=False,
        is_of_files=True,
    ),
)

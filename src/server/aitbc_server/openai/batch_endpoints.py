"""The endpoints that lines of batches may ask: read and answered as live calls are."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Protocol

import orjson

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.batches.parts import Told
from aitbc_server.openai.chat import Chat
from aitbc_server.openai.completions import Completions
from aitbc_server.openai.embeddings import EmbeddingRequest, embedding_list
from aitbc_server.openai.errors import (
    JobFailed,
    OpenAIError,
    missing,
    model_not_found,
    openai_response,
    unsupported,
)
from aitbc_server.openai.response_input import ItemReference, PlainItem
from aitbc_server.openai.response_object import response_object
from aitbc_server.openai.response_request import ResponseRequest
from aitbc_server.openai.schema import Asked, read
from aitbc_server.openai.unknown import HEADER, Ignorance, PassedOver
from aitbc_server.openai.wording import in_words_of

# Told what a request has that is passed over.
_Note = Callable[[PassedOver], None]


class Miners(Protocol):
    """The miners that are registered."""

    def are_known_for(self, model: str) -> bool:
        """Says whether any of them has a model, here now or not."""
        ...

    def served_models(self) -> Collection[str]:
        """Returns the models that those which are here have."""
        ...


class _Endpoint(Protocol):
    """One endpoint."""

    @property
    def schema(self) -> type[Asked]:
        """The body of a request."""
        ...

    async def jobs_of(
        self, body: bytes, note: _Note, most_bytes: int
    ) -> Sequence[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that a request asks for. Raises OpenAIError."""
        ...

    async def answer(
        self, body: bytes, note: _Note, jobs: Sequence[jobs_pb2.Job], created: int
    ) -> dict[str, Any]:
        """Returns the answer of jobs that are completed."""
        ...


class _Generation:
    """Chat or completions."""

    def __init__(self, kind: type[Chat | Completions]) -> None:
        self._kind = kind
        self.schema = kind.schema

    async def jobs_of(
        self, body: bytes, note: _Note, most_bytes: int
    ) -> Sequence[jobs_pb2.SubmitJobRequest]:
        request: Any = await read(self.schema, body, note)
        _refuse_stream(request.stream)
        made: Sequence[jobs_pb2.SubmitJobRequest] = await by_size(
            len(body) * request.times, request.submissions, most_bytes
        )
        return made

    async def answer(
        self, body: bytes, note: _Note, jobs: Sequence[jobs_pb2.Job], created: int
    ) -> dict[str, Any]:
        request: Any = await read(self.schema, body, note)
        told = self._kind(request, [job.job_id for job in jobs], created)
        return await by_size(sum(job.ByteSize() for job in jobs), told.whole, jobs)


class _Responses:
    """Responses: they may not go on with others, which could be lines of the same batch."""

    schema = ResponseRequest

    async def jobs_of(
        self, body: bytes, note: _Note, most_bytes: int
    ) -> Sequence[jobs_pb2.SubmitJobRequest]:
        request = await read(ResponseRequest, body, note)
        _refuse_stream(request.stream)
        if request.previous_response_id is not None:
            raise unsupported("previous_response_id", "a line of a batch begins a conversation")
        items: list[PlainItem] = []
        for place, item in enumerate(request.items):
            if isinstance(item, ItemReference):
                why = "a line of a batch names no items of other responses"
                raise unsupported(f"input[{place}]", why)
            items.append(item)
        return [await by_size(len(body), request.submission, [], items)]

    async def answer(
        self, body: bytes, note: _Note, jobs: Sequence[jobs_pb2.Job], created: int
    ) -> dict[str, Any]:
        request = await read(ResponseRequest, body, note)
        (job,) = jobs
        return await by_size(job.ByteSize(), response_object, job, request.includes)


class _Embeddings:
    """Embeddings."""

    schema = EmbeddingRequest

    async def jobs_of(
        self, body: bytes, note: _Note, most_bytes: int
    ) -> Sequence[jobs_pb2.SubmitJobRequest]:
        request = await read(EmbeddingRequest, body, note)
        if request.model is None:
            # Which one is served may have changed when the line's turn comes.
            raise missing("model")
        if request.is_bytes:
            raise unsupported(
                "encoding_format", "a line of a batch is answered in JSON: give base64"
            )
        return await by_size(len(body), request.submissions, request.model, most_bytes)

    async def answer(
        self, body: bytes, note: _Note, jobs: Sequence[jobs_pb2.Job], created: int
    ) -> dict[str, Any]:
        request = await read(EmbeddingRequest, body, note)
        return await embedding_list(request, jobs[0].model, jobs, created)


_ENDPOINTS: dict[str, _Endpoint] = {
    "/v1/chat/completions": _Generation(Chat),
    "/v1/completions": _Generation(Completions),
    "/v1/responses": _Responses(),
    "/v1/embeddings": _Embeddings(),
}


class BatchEndpoints:
    """All of them."""

    paths = tuple(_ENDPOINTS)

    def __init__(self, miners: Miners, ignorance: Ignorance, most_bytes: int) -> None:
        """`most_bytes`: of the jobs of one line."""
        self._most_bytes = most_bytes
        self._miners = miners
        self._ignorance = ignorance

    async def jobs_of(self, path: str, body: bytes) -> Sequence[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that a request asks for. Raises OpenAIError."""
        made = await _ENDPOINTS[path].jobs_of(body, self._note, self._most_bytes)
        for one in made:
            # A miner that is away may come back: a batch has time.
            if not self._miners.are_known_for(one.model):
                raise model_not_found(one.model, self._miners.served_models())
        return made

    async def answer(self, path: str, body: bytes, jobs: Sequence[jobs_pb2.Job]) -> Told:
        """Returns what the endpoint answers once its jobs are final."""
        for job in jobs:
            if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
                raise JobFailed(job)
        created = jobs[0].created_at.seconds if jobs else int(time.time())
        seen: list[PassedOver] = []
        answered = await _ENDPOINTS[path].answer(body, seen.append, jobs, created)
        return Told(200, answered, _headers(seen))

    def _note(self, passed_over: PassedOver) -> None:
        self._ignorance.note(passed_over, "a line of a batch")

    async def failure(
        self, path: str, body: bytes, error: Exception, job_ids: Sequence[str]
    ) -> Told:
        """Returns what the endpoint answers to a request when it fails so."""
        seen: list[PassedOver] = []
        # What is wrong may be the request itself, which then is the error.
        with suppress(OpenAIError):
            request = await read(_ENDPOINTS[path].schema, body, seen.append)
            error = in_words_of(request, error, job_ids)
        response = openai_response(error, "a line of a batch")
        return Told(response.status, orjson.loads(response.text), _headers(seen))


def _headers(seen: Sequence[PassedOver]) -> dict[str, str]:
    """Returns what a live call tells in its headers of what was passed over."""
    return {HEADER.decode(): one.header.decode() for one in seen}


def _refuse_stream(is_stream: bool) -> None:
    if is_stream:
        raise OpenAIError(
            400,
            "Unsupported parameter: 'stream': a line of a batch has one answer.",
            code="unsupported_parameter",
            param="stream",
        )

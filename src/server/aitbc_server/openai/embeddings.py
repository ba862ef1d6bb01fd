"""Embeddings: `POST /v1/embeddings`."""

from __future__ import annotations

import contextlib
import json
import time
from base64 import b64encode
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

import orjson
from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import LARGE_BYTES, aside, by_size
from aitbc_server.openai.call import Call
from aitbc_server.openai.chat_messages import ChatMessage, part_places
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.ruled import counted, ruled
from aitbc_server.openai.schema import WHOLE, Several, few, json_text
from aitbc_server.openai.task_jobs import (
    MOST_INPUTS,
    Pooling,
    TaskJobs,
    Words,
    in_parts,
    inputs_of,
    outputs_of,
)
from aitbc_server.openai.vectors import Endianness, Format, packed

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_INPUT = jobs_pb2.TaskInput.DESCRIPTOR
# Bytes of the vectors of one request: those of 2,048 with 3,072 numbers. As texts they have five
# times as many.
_MOST_BYTES = 49 * 512 * 1024
# The same of a line of a batch, which is in memory as a whole, in its text several times as large.
_MOST_OF_LINE = 8 * 1024 * 1024
# Vectors that are written at once: as texts up to some hundred thousand bytes each.
_AT_ONCE = 4
# Each is a job of its own.
_MOST_CONVERSATIONS = 256
# Answers that are no JSON.
_OF_BYTES = frozenset({"bytes", "bytes_only"})


def _form_of(value: Any) -> str:
    if isinstance(value, str):
        return "(text)"
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list):
        is_tokens = not first or isinstance(first[0], int | float)
        return "(lists of tokens)" if is_tokens else "(conversations)"
    if isinstance(first, dict):
        return "(messages)"
    return "(tokens)" if isinstance(first, int | float) else "(texts)"


def _conversations_of(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else None
    return "(conversations)" if isinstance(first, list) else "(messages)"


_Many = Field(min_length=1, max_length=MOST_INPUTS, strict=False, fail_fast=True)
_Tokens = Annotated[
    tuple[Annotated[int, ruled(_INPUT, "token_ids"), WHOLE], ...],
    counted(_INPUT, "token_ids"),
    Field(min_length=1, strict=False, fail_fast=True),
]
_Messages = Annotated[Several[ChatMessage], counted(_SUBMIT, "messages"), Field(min_length=1)]
_Conversations = Annotated[
    Several[_Messages], Field(min_length=1, max_length=_MOST_CONVERSATIONS, fail_fast=True)
]


class EmbeddingRequest(Pooling, table="embeddings"):
    """The body of a request: a text, a list of tokens or a conversation, or many of one of them."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["input"]}, {"required": ["messages"]}]}
    )

    # vLLM's: conversations in other words.
    messages: (
        Annotated[
            Annotated[_Messages, Tag("(messages)")]
            | Annotated[_Conversations, Tag("(conversations)")],
            Discriminator(_conversations_of),
        ]
        | None
    ) = None
    input: (
        Annotated[
            Annotated[Words, Tag("(text)")]
            | Annotated[tuple[Words, ...], _Many, Tag("(texts)")]
            | Annotated[_Tokens, Tag("(tokens)")]
            | Annotated[tuple[_Tokens, ...], _Many, Tag("(lists of tokens)")]
            | Annotated[_Messages, Tag("(messages)")]
            | Annotated[_Conversations, Tag("(conversations)")],
            Discriminator(_form_of),
        ]
        | None
    ) = Field(default=None, validate_default=True)
    # vLLM's: how prompts are made of conversations.
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    chat_template_kwargs: Annotated[dict[str, Any], few(1000)] = Field(default={})
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = "float"
    embed_dtype: Format = "float32"
    endianness: Endianness = "native"
    dimensions: Annotated[int, ruled(_SUBMIT, "dimensions"), WHOLE] | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _is_given(cls, given: Any, info: ValidationInfo) -> Any:
        # Messages that are wrong are no part of the data.
        if given is None and info.data.get("messages", ()) is None:
            raise PydanticKnownError("missing")
        return given

    @property
    def is_bytes(self) -> bool:
        """Whether it is answered with the bytes of the vectors alone."""
        return self.encoding_format in _OF_BYTES

    def parts(self, model: str) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Yields the jobs that it asks for. Raises OpenAIError."""
        job = self.job(model, jobs_pb2.JOB_TASK_EMBED)
        if self.dimensions is not None:
            job.dimensions = self.dimensions
        if self.input is not None and self.messages is not None:
            raise OpenAIError(
                400,
                "Invalid 'messages': give either input or messages.",
                code="invalid_value",
                param="messages",
            )
        return self._of_conversations(job) if self._is_spoken else in_parts(job, self._inputs())

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        if self._is_spoken:
            return {**super().places(job), **self._turn_places(job)}
        origins: dict[Path, list[Path]] = {
            ("inputs", place): [("input",) if self._is_one else ("input", origin)]
            for place, origin in enumerate(inputs_of(self, job))
        }
        return {**super().places(job), **origins}

    @property
    def _is_one(self) -> bool:
        given: Any = self.input
        return isinstance(given, str) or isinstance(given[0], int)

    @property
    def _given(self) -> Any:
        return self.input if self.messages is None else self.messages

    @property
    def _is_spoken(self) -> bool:
        return self.messages is not None or isinstance(_innermost(self.input), ChatMessage)

    def _of_conversations(
        self, job: jobs_pb2.SubmitJobRequest
    ) -> Iterator[jobs_pb2.SubmitJobRequest]:
        options = job.prompt_options
        options.add_generation_prompt = self.add_generation_prompt
        options.continue_final_message = self.continue_final_message
        if self.chat_template_kwargs:
            options.chat_template_kwargs = json_text(self.chat_template_kwargs)
        for conversation in _each(self._given):
            made = jobs_pb2.SubmitJobRequest()
            made.CopyFrom(job)
            made.messages.extend(message.turn() for message in conversation)
            yield made

    def _turn_places(self, job: int) -> Places:
        name = "input" if self.messages is None else "messages"
        is_one = isinstance(self._given[0], ChatMessage)
        at: Path = (name,) if is_one else (name, job)
        turns = _each(self._given)[job]
        places: dict[Path, list[Path]] = {("messages",): [at]}
        places |= {("messages", number): [(*at, number)] for number in range(len(turns))}
        for path, origins in part_places(turns).items():
            places[path] = [(*at, *origin[1:]) for origin in origins]
        return places

    def _inputs(self) -> Iterator[jobs_pb2.TaskInput]:
        given: Any = self.input
        for one in (given,) if self._is_one else given:
            if isinstance(one, str):
                yield jobs_pb2.TaskInput(text=one)
            else:
                yield jobs_pb2.TaskInput(token_ids=one)


def _innermost(given: Any) -> Any:
    while isinstance(given, tuple):
        given = given[0]
    return given


def _each(given: Any) -> tuple[tuple[ChatMessage, ...], ...]:
    """Returns the conversations that one or several are."""
    return (given,) if isinstance(given[0], ChatMessage) else given


class Embeddings:
    """Answers the requests."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    async def create(self, call: Call, _: str) -> None:
        """Answers with a vector for each input."""
        request, model = await self._jobs.read(call, EmbeddingRequest)
        # As their bytes: as messages they would take half as much again.
        kept: deque[bytes] = deque()
        size = tokens = 0
        async with contextlib.aclosing(self._jobs.each(call, request, model)) as jobs:
            async for job in jobs:
                _check_size(size := size + job.ByteSize())
                tokens += job.usage.prompt_tokens
                kept.append(job.SerializeToString())
        with call.holding(size):
            if size > LARGE_BYTES and not request.is_bytes:
                head = _about(model, call.job_ids[0], int(time.time()), tokens)
                pieces = _written(request, head, kept)
                await call.send_content(pieces, content_type=b"application/json")
            else:
                read = [jobs_pb2.Job.FromString(one) for one in kept]
                await self._tell(call, request, model, read)

    async def _tell(
        self, call: Call, request: EmbeddingRequest, model: str, jobs: list[jobs_pb2.Job]
    ) -> None:
        created = int(time.time())
        if not request.is_bytes:
            await call.answer(await _list(request, model, jobs, created))
            return
        vectors: list[bytes] = []
        for job in jobs:
            vectors += await by_size(job.ByteSize(), _packed, request, job.outputs)
        headers = []
        if request.encoding_format == "bytes":
            data = _located(request, vectors, jobs)
            told = json.dumps({**_about_jobs(model, jobs, created), "data": data})
            headers = [(b"metadata", told.encode())]
        await call.send_content(_pieces(vectors), headers)


async def embedding_list(
    request: EmbeddingRequest, model: str, jobs: Sequence[jobs_pb2.Job], created: int
) -> dict[str, Any]:
    """Returns the answer of jobs that are completed as the part of a line of a batch.

    Raises OpenAIError where it is too large for that.
    """
    _check_size(sum(job.ByteSize() for job in jobs), _MOST_OF_LINE)
    return await _list(request, model, jobs, created)


async def _list(
    request: EmbeddingRequest, model: str, jobs: Sequence[jobs_pb2.Job], created: int
) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for job in jobs:
        data += _items(await by_size(job.ByteSize(), _told, request, job.outputs), len(data))
    return {**_about_jobs(model, jobs, created), "object": "list", "data": data}


async def _written(
    request: EmbeddingRequest, head: dict[str, Any], kept: deque[bytes]
) -> AsyncGenerator[bytes, None]:
    """Yields a large answer as JSON. Each job is let go when it is written."""
    yield orjson.dumps({**head, "object": "list"})[:-1] + b',"data":['
    before, place = b"", 0
    while kept:
        job = await aside(jobs_pb2.Job.FromString, kept.popleft())
        for begin in range(0, len(job.outputs), _AT_ONCE):
            outputs = job.outputs[begin : begin + _AT_ONCE]
            items = _items(await aside(_told, request, outputs), place)
            yield before + orjson.dumps(items)[1:-1]
            before, place = b",", place + len(items)
    yield b"]}"


def _told(request: EmbeddingRequest, outputs: Sequence[jobs_pb2.TaskOutput]) -> list[Any]:
    """Returns vectors as JSON has them."""
    if request.encoding_format == "float":
        return [orjson.Fragment(orjson.dumps(list(output.vector))) for output in outputs]
    return [b64encode(one).decode() for one in _packed(request, outputs)]


def _items(vectors: Sequence[Any], start: int) -> list[dict[str, Any]]:
    return [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors, start)
    ]


def _about_jobs(model: str, jobs: Sequence[jobs_pb2.Job], created: int) -> dict[str, Any]:
    return _about(model, jobs[0].job_id, created, sum(job.usage.prompt_tokens for job in jobs))


def _about(model: str, job_id: str, created: int, tokens: int) -> dict[str, Any]:
    return {
        "id": f"embd-{job_id.removeprefix('job-')}",
        "created": created,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _located(
    request: EmbeddingRequest, vectors: Sequence[bytes], jobs: Sequence[jobs_pb2.Job]
) -> list[dict[str, Any]]:
    """Returns where among the bytes each vector is, as vLLM tells it."""
    ends = list(accumulate(map(len, vectors)))
    return [
        {
            "index": index,
            "embed_dtype": request.embed_dtype,
            "endianness": request.endianness,
            "start": end - len(vector),
            "end": end,
            "shape": [len(output.vector)],
        }
        for index, (vector, end, output) in enumerate(
            zip(vectors, ends, outputs_of(jobs), strict=True)
        )
    ]


async def _pieces(vectors: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for vector in vectors:
        yield vector


def _packed(request: EmbeddingRequest, outputs: Sequence[jobs_pb2.TaskOutput]) -> list[bytes]:
    form, endianness = request.embed_dtype, request.endianness
    return [packed(output.vector, form, endianness) for output in outputs]


def _check_size(size: int, most: int = _MOST_BYTES) -> None:
    if size > most:
        raise OpenAIError(
            400,
            f"Invalid 'input': the vectors have more than {most:,} bytes together, which is"
            " as much as one answer may have: give fewer inputs.",
            code="invalid_value",
            param="input",
        )

"""Embeddings: `POST /v1/embeddings`."""

from __future__ import annotations

import sys
import time
from array import array
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Discriminator, Field, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.ruled import counted, ruled
from aitbc_server.openai.schema import WHOLE
from aitbc_server.openai.task_jobs import (
    MOST_INPUTS,
    Pooling,
    TaskJobs,
    Words,
    in_parts,
    inputs_of,
    read_tokens,
)

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_INPUT = jobs_pb2.TaskInput.DESCRIPTOR
# Bytes of the vectors of one request: as texts of numbers they have five times as many.
_MOST_BYTES = 32 * 1024 * 1024


def _form_of(value: Any) -> str:
    if isinstance(value, str):
        return "(text)"
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list):
        return "(lists of tokens)"
    return "(tokens)" if isinstance(first, int | float) else "(texts)"


_Many = Field(min_length=1, max_length=MOST_INPUTS, strict=False, fail_fast=True)
_Tokens = Annotated[
    tuple[Annotated[int, ruled(_INPUT, "token_ids"), WHOLE], ...],
    counted(_INPUT, "token_ids"),
    Field(min_length=1, strict=False, fail_fast=True),
]


class EmbeddingRequest(Pooling, table="embeddings"):
    """The body of a request: one text, or one list of tokens, or many of either."""

    input: Annotated[
        Annotated[Words, Tag("(text)")]
        | Annotated[tuple[Words, ...], _Many, Tag("(texts)")]
        | Annotated[_Tokens, Tag("(tokens)")]
        | Annotated[tuple[_Tokens, ...], _Many, Tag("(lists of tokens)")],
        Discriminator(_form_of),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, ruled(_SUBMIT, "dimensions"), WHOLE] | None = None

    def parts(self, model: str) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Yields the jobs that it asks for."""
        job = self.job(model, jobs_pb2.JOB_TASK_EMBED)
        if self.dimensions is not None:
            job.dimensions = self.dimensions
        return in_parts(job, self._inputs())

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        origins: dict[Path, list[Path]] = {
            ("inputs", place): [("input",) if self._is_one else ("input", origin)]
            for place, origin in enumerate(inputs_of(self, job))
        }
        return {**super().places(job), **origins}

    @property
    def _is_one(self) -> bool:
        given: Any = self.input
        return isinstance(given, str) or isinstance(given[0], int)

    def _inputs(self) -> Iterator[jobs_pb2.TaskInput]:
        given: Any = self.input
        for one in (given,) if self._is_one else given:
            if isinstance(one, str):
                yield jobs_pb2.TaskInput(text=one)
            else:
                yield jobs_pb2.TaskInput(token_ids=one)


class Embeddings:
    """Answers the requests."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    async def create(self, call: Call, _: str) -> None:
        """Answers with a vector for each input."""
        request, model = await self._jobs.read(call, EmbeddingRequest)
        jobs = await self._jobs.run_all(call, request, model, _check_size)
        with call.holding(jobs):
            await call.answer(await embedding_list(request, model, jobs, int(time.time())))


async def embedding_list(
    request: EmbeddingRequest, model: str, jobs: Sequence[jobs_pb2.Job], created: int
) -> dict[str, Any]:
    """Returns the answer of jobs that are completed. Raises OpenAIError where it is too large."""
    _check_size(sum(job.ByteSize() for job in jobs))
    data: list[dict[str, Any]] = []
    for job in jobs:
        vectors = await by_size(job.ByteSize(), _encoded, job, request.encoding_format)
        data += [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors, start=len(data))
        ]
    return {
        "id": f"embd-{jobs[0].job_id.removeprefix('job-')}",
        "object": "list",
        "created": created,
        "model": model,
        "data": data,
        "usage": read_tokens(jobs),
    }


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise OpenAIError(
            400,
            f"Invalid 'input': the vectors have more than {_MOST_BYTES:,} bytes together, which is"
            " as much as one answer may have: give fewer inputs.",
            code="invalid_value",
            param="input",
        )


def _encoded(job: jobs_pb2.Job, form: str) -> list[Any]:
    if form == "base64":
        return [b64encode(_little_endian(output.vector)).decode() for output in job.outputs]
    return [orjson.Fragment(orjson.dumps(list(output.vector))) for output in job.outputs]


def _little_endian(vector: Sequence[float]) -> bytes:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()

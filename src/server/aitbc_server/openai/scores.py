"""How well texts fit each other: `POST /score` and `POST /rerank`, as vLLM, Jina and Cohere do."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import OpenAIError, missing
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.ruled import ruled
from aitbc_server.openai.schema import BY_FORM, LIST, TEXT, WHOLE, Schema, few, json_text
from aitbc_server.openai.task_jobs import (
    MOST_INPUTS,
    Pooling,
    TaskJobs,
    Words,
    in_parts,
    inputs_of,
    outputs_of,
    read_tokens,
)

_OPTIONS = jobs_pb2.PromptOptions.DESCRIPTOR
# What the two sides of pairs are called.
Sides = tuple[str, str]


class TextDocument(Schema, table="document"):
    """A document that is no plain text."""

    text: Words


_Document = Annotated[
    Annotated[Words, TEXT] | Annotated[TextDocument, LIST],
    BY_FORM,
]
_Documents = Annotated[
    tuple[_Document, ...],
    Field(min_length=1, max_length=MOST_INPUTS, strict=False, fail_fast=True),
]
_OneOrMore = Annotated[Annotated[Words, TEXT] | Annotated[_Documents, LIST], BY_FORM]


def _texts(given: Any) -> list[str]:
    many = (given,) if isinstance(given, str) else given
    return [one if isinstance(one, str) else one.text for one in many]


def _pairs(
    job: jobs_pb2.SubmitJobRequest, texts: list[str], others: list[str]
) -> Iterator[jobs_pb2.SubmitJobRequest]:
    if len(texts) == 1:
        texts = texts * len(others)
    pairs = zip(texts, others, strict=True)
    return in_parts(job, (jobs_pb2.TaskInput(text=text, text_pair=other) for text, other in pairs))


def _pair_places(request: Pooling, sides: Sides, job: int) -> Places:
    """Returns where the pairs of a job came from: of a side, its only text or one of many."""
    inputs = inputs_of(request, job)
    origins: dict[Path, list[Path]] = {("inputs",): [(sides[1],)]}
    for field, side in zip(("text", "text_pair"), sides, strict=True):
        given = getattr(request, side)
        for place, origin in enumerate(inputs):
            at: Path = (side,) if isinstance(given, str) else (side, origin % len(given))
            origins["inputs", place, field] = [(*at, "text")]
    return origins


class _Pairing(Pooling):
    """What requests have in common that compare the texts of two sides."""

    max_tokens_per_query: Annotated[int, ruled(_OPTIONS, "max_tokens_per_query"), WHOLE] = 0
    max_tokens_per_doc: Annotated[int, ruled(_OPTIONS, "max_tokens_per_document"), WHOLE] = 0
    # Of the template of pairs: its variable `instruction`, and all of them.
    instruction: Words | None = None
    chat_template_kwargs: Annotated[dict[str, Any], few(1000)] = Field(default={})

    def job(self, model: str, task: jobs_pb2.JobTask.ValueType) -> jobs_pb2.SubmitJobRequest:
        """Returns a job without its inputs."""
        job = super().job(model, task)
        variables = self.chat_template_kwargs
        if self.instruction is not None:
            variables = {"instruction": self.instruction, **variables}
        options = jobs_pb2.PromptOptions(
            chat_template_kwargs=json_text(variables) if variables else "",
            max_tokens_per_query=self.max_tokens_per_query,
            max_tokens_per_document=self.max_tokens_per_doc,
        )
        if options.ByteSize():
            job.prompt_options.MergeFrom(options)
        return job

    @property
    @abstractmethod
    def _sides(self) -> Sides:
        """The parameters that have the two texts of each pair. Raises OpenAIError."""

    @property
    def _many(self) -> tuple[str, str]:
        first, second = self._sides
        return second, f"each of them goes with a text of '{first}'"

    @property
    def times(self) -> int:
        """How often at most its jobs repeat what it has."""
        return len(_texts(getattr(self, self._sides[1])))

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        return {**super().places(job), **_pair_places(self, self._sides, job)}


class ScoreRequest(_Pairing, table="score"):
    """The body of a request: one text and many others, or many pairs, by any of their names."""

    text_1: _OneOrMore | None = None
    text_2: _OneOrMore | None = None
    queries: _OneOrMore | None = None
    documents: _OneOrMore | None = None
    items: _OneOrMore | None = None
    data_1: _OneOrMore | None = None
    data_2: _OneOrMore | None = None

    @property
    def _sides(self) -> Sides:
        for names in _NAMES:
            if all(getattr(self, name) is not None for name in names):
                return names
        for names in _NAMES:
            absent = [name for name in names if getattr(self, name) is None]
            if len(absent) == 1:
                raise missing(absent[0])
        named = " or ".join(f"{first} and {second}" for first, second in _NAMES)
        message = f"Missing required parameters: give {named}."
        raise OpenAIError(400, message, code="missing_required_parameter", param=_NAMES[0][0])

    def parts(self, model: str) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for, one by one. Raises OpenAIError."""
        first, second = self._sides
        texts, others = _texts(getattr(self, first)), _texts(getattr(self, second))
        if len(texts) not in (1, len(others)):
            message = (
                f"Invalid '{second}': there must be as many as of the others, or one of those."
            )
            raise OpenAIError(400, message, code="invalid_value", param=second)
        return _pairs(self.job(model, jobs_pb2.JOB_TASK_SCORE), texts, others)


# What two sides are called.
_NAMES: tuple[Sides, ...] = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)


class RerankRequest(_Pairing, table="rerank"):
    """The body of a request: a query, and the documents to order by how well they fit it."""

    query: Words
    documents: _OneOrMore
    # All, where it is 0.
    top_n: Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE] = 0
    return_documents: bool = True

    @property
    def _sides(self) -> Sides:
        return "query", "documents"

    def parts(self, model: str) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for, one by one."""
        job = self.job(model, jobs_pb2.JOB_TASK_SCORE)
        return _pairs(job, [self.query], _texts(self.documents))

    def results(self, scores: list[float]) -> list[dict[str, Any]]:
        """Returns the documents, the best one first."""
        texts = _texts(self.documents)
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        results: list[dict[str, Any]] = []
        for index in order[: self.top_n or len(order)]:
            result: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
            if self.return_documents:
                result["document"] = {"text": texts[index]}
            results.append(result)
        return results


class Scores:
    """Answers the requests."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    async def score(self, call: Call, _: str) -> None:
        """Answers with a score of each pair."""
        request, model = await self._jobs.read(call, ScoreRequest)
        jobs = await self._jobs.run_all(call, request, model)
        usage = read_tokens(jobs)
        await call.answer(
            {
                "id": f"score-{call.job_ids[0].removeprefix('job-')}",
                "object": "list",
                "created": int(time.time()),
                "model": model,
                "data": [
                    {"index": index, "object": "score", "score": score}
                    for index, score in enumerate(_scores_of(jobs))
                ],
                "usage": {**usage, "completion_tokens": 0},
            }
        )

    async def rerank(self, call: Call, _: str) -> None:
        """Answers with the documents in their order."""
        request, model = await self._jobs.read(call, RerankRequest)
        jobs = await self._jobs.run_all(call, request, model)
        await call.answer(
            {
                "id": f"rerank-{call.job_ids[0].removeprefix('job-')}",
                "model": model,
                "usage": read_tokens(jobs),
                "results": request.results(_scores_of(jobs)),
            }
        )


def _scores_of(jobs: list[jobs_pb2.Job]) -> list[float]:
    return [output.score for output in outputs_of(jobs)]

"""Requests that ask a model for something else than an answer: each is one job, or several."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from pydantic import StringConstraints

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.jobs import Jobs
from aitbc_server.openai.made_jobs import MOST_BYTES, together
from aitbc_server.openai.origins import Places
from aitbc_server.openai.ruled import ruled, sized
from aitbc_server.openai.schema import WHOLE, Asked, Noted

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_OPTIONS = jobs_pb2.PromptOptions.DESCRIPTOR
# Inputs of one request, as OpenAI has it.
MOST_INPUTS = 2048
# Of one job, which one miner answers in one message: vectors of 16,000 numbers fit.
_INPUTS_EACH = 64
_BYTES_EACH = 1024 * 1024

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Words = Annotated[str, sized(jobs_pb2.TaskInput.DESCRIPTOR, "text")]


class Asking(Asked):
    """What requests of all tasks have in common."""

    # The only one that is served, when there is one and it is not named.
    model: ModelName | None = None
    user: Noted | None = None
    priority: Annotated[int, ruled(_SUBMIT, "priority"), WHOLE] = 0
    add_special_tokens: bool | None = None

    def job(self, model: str, task: jobs_pb2.JobTask.ValueType) -> jobs_pb2.SubmitJobRequest:
        """Returns a job without its inputs."""
        job = jobs_pb2.SubmitJobRequest(
            model=model, task=task, priority=self.priority, user=self.user or ""
        )
        if self.add_special_tokens is not None:
            job.prompt_options.add_special_tokens = self.add_special_tokens
        return job


class Pooling(Asking):
    """What requests have in common that embed or score."""

    # Of which parameter there may be too many; and why.
    @property
    def _many(self) -> tuple[str, str]:
        return "input", "each has a part in a job"

    truncate_prompt_tokens: (
        Annotated[int, ruled(_OPTIONS, "truncate_prompt_tokens"), WHOLE] | None
    ) = None
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None
    cache_salt: Annotated[str, sized(_SUBMIT, "cache_salt")] = ""

    def job(self, model: str, task: jobs_pb2.JobTask.ValueType) -> jobs_pb2.SubmitJobRequest:
        """Returns a job without its inputs."""
        job = super().job(model, task)
        job.cache_salt = self.cache_salt
        if self.truncate_prompt_tokens is not None:
            job.prompt_options.truncate_prompt_tokens = self.truncate_prompt_tokens
        if self.truncation_side is not None:
            job.prompt_options.truncation_side = self.truncation_side
        if self.use_activation is not None:
            job.use_activation = self.use_activation
        return job

    @abstractmethod
    def parts(self, model: str) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Yields the jobs that it asks for. Raises OpenAIError."""

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        return {**super().places(job), ("jobs",): [(self._many[0],)]}

    def submissions(
        self, model: str, most_bytes: int = MOST_BYTES
    ) -> list[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for. Raises OpenAIError."""
        return together(self.parts(model), most_bytes, *self._many)


AskingRequest = TypeVar("AskingRequest", bound=Asking)


class TaskJobs:
    """Runs the jobs of one request."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def read(self, call: Call, schema: type[AskingRequest]) -> tuple[AskingRequest, str]:
        """Returns a request, and the model that it asks. Raises OpenAIError and HttpError."""
        await self._jobs.admit(call.client)
        request = await call.read(schema, await call.body())
        model = request.model
        if model is None:
            model = await self._only_model(call)
        else:
            await self._jobs.check_model(model, call.client)
        return request, model

    async def run_all(self, call: Call, request: Pooling, model: str) -> list[jobs_pb2.Job]:
        """Returns the jobs of a request when all are completed. Raises OpenAIError."""
        return [job async for job in self.each(call, request, model)]

    async def each(
        self, call: Call, request: Pooling, model: str
    ) -> AsyncGenerator[jobs_pb2.Job, None]:
        """Yields the jobs of a request when they are completed. Raises OpenAIError.

        When whoever takes them stops, the others are not waited for.
        """
        size = call.asked_bytes * request.times
        most_bytes = self._jobs.max_message_bytes
        made = await by_size(size, request.submissions, model, most_bytes)
        async with contextlib.aclosing(self._run(call, made)) as jobs:
            async for job in jobs:
                yield job

    async def run(
        self, call: Call, submissions: Sequence[jobs_pb2.SubmitJobRequest]
    ) -> list[jobs_pb2.Job]:
        """Returns the jobs when all are completed. Raises JobFailed."""
        return [job async for job in self._run(call, submissions)]

    async def _run(
        self, call: Call, submissions: Sequence[jobs_pb2.SubmitJobRequest]
    ) -> AsyncGenerator[jobs_pb2.Job, None]:
        jobs, client = self._jobs, call.client
        call.job_ids = await jobs.submit(submissions, client)
        async with jobs.cancelled_with_client(call.job_ids, client), call.watched():
            for job_id in call.job_ids:
                (job,) = await jobs.results([job_id], client)
                yield job

    async def max_model_len(self, call: Call, model: str) -> int | None:
        """Returns how long a prompt and its answer may be, when a miner of the model says so."""
        served = await self._jobs.served(call.client)
        known = served.get(model)
        return known.max_model_len if known and known.HasField("max_model_len") else None

    async def _only_model(self, call: Call) -> str:
        served = await self._jobs.served(call.client)
        if len(served) != 1:
            names = ", ".join(served) or "none"
            message = f"Missing required parameter: 'model'. Models served now: {names}."
            raise OpenAIError(400, message, code="missing_required_parameter", param="model")
        (model,) = served
        return model


def in_parts(
    job: jobs_pb2.SubmitJobRequest, inputs: Iterable[jobs_pb2.TaskInput]
) -> Iterator[jobs_pb2.SubmitJobRequest]:
    """Yields jobs that have the inputs in their order: so few each that an answer holds theirs."""
    part = jobs_pb2.SubmitJobRequest()
    part.CopyFrom(job)
    size = 0
    for one in inputs:
        taken = one.ByteSize()
        if part.inputs and (len(part.inputs) == _INPUTS_EACH or size + taken > _BYTES_EACH):
            yield part
            part = jobs_pb2.SubmitJobRequest()
            part.CopyFrom(job)
            size = 0
        part.inputs.append(one)
        size += taken
    yield part


def inputs_of(request: Pooling, place: int) -> range:
    """Returns which inputs of a request one of its jobs has."""
    begin = end = 0
    for job in islice(request.parts(""), place + 1):
        begin, end = end, end + len(job.inputs)
    return range(begin, end)


def outputs_of(jobs: Iterable[jobs_pb2.Job]) -> list[jobs_pb2.TaskOutput]:
    """Returns the outputs of all inputs, in their order."""
    return [output for job in jobs for output in job.outputs]


def read_tokens(jobs: Iterable[jobs_pb2.Job]) -> dict[str, Any]:
    """Returns the usage of jobs that generate nothing."""
    tokens = sum(job.usage.prompt_tokens for job in jobs)
    return {"prompt_tokens": tokens, "total_tokens": tokens}

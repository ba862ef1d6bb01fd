"""Errors of jobs in the words of the request that the jobs are of.

What the coordinator or a miner refuses, it names by a field of the job: see `origins`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import Failure, failure_of
from aitbc_server.domain.errors import TaskNotServed
from aitbc_server.openai.errors import JobFailed, OpenAIError, code_of
from aitbc_server.openai.origins import (
    Path,
    message_of,
    names_of,
    origin_of,
    path_text,
    steps_of,
)
from aitbc_server.openai.schema import Asked
from aitbc_server.rest.errors import status_of

_JOB = jobs_pb2.SubmitJobRequest.DESCRIPTOR
# Messages whose fields miners name without the message.
_HOLDERS = ("params", "prompt_options")
# Fields that come in headers.
_HEADERS = {"request_id": "Idempotency-Key"}
# What is before a model: the first of these that the request has.
_PROMPTS = ("prompt", "inputs")
# A path in a sentence: with a step below a field.
_NAMED = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)+")
_NUL = "NUL"


def in_words_of(request: Asked | None, error: Exception, job_ids: Sequence[str] = ()) -> Exception:
    """Returns an error as the caller of a request is told of it.

    `job_ids`: of the jobs of the request, in their order, once they are known.
    """
    if request is None or not names_field(error):
        return error
    if isinstance(error, JobFailed):
        place = job_ids.index(error.job_id) if error.job_id in job_ids else 0
        return _of_miner(request, error, place)
    failure = failure_of(error)
    return _of_coordinator(request, failure, failure.field or "")


def names_field(error: Exception) -> bool:
    """Says whether an error speaks of a job, and so may name a field of it."""
    return isinstance(error, JobFailed) or failure_of(error).field is not None


def words_of(error: JobFailed, known: Collection[str]) -> str:
    """Returns what is told of a failed job whose request is known no more.

    `known`: what its API calls parameters.
    """
    name = _unsent(_of_job(error.blamed), known) if error.blamed is not None else None
    return str(error) if name is None else _renamed(error, name)


def _of_coordinator(request: Asked, failure: Failure, field: str) -> OpenAIError:
    problem = failure.message.removeprefix(f"{field}: ")
    path = steps_of(field)
    place = 0
    if path[0] == "jobs" and path[1:]:
        # Of several.
        place, path = int(path[1]), path[2:]
    words = _Words(request, place)
    problem = _NAMED.sub(lambda found: words.mentioned(found[0]), problem)
    param = _HEADERS.get(path_text(path)) or words.name_of(path, has_nul=_NUL in problem)
    # What is asked is said by the path of a request, and not by a field of it.
    is_named = param is not None and failure.reason != TaskNotServed.reason
    message = f"{param}: {problem}" if is_named else problem
    return OpenAIError(status_of(failure), message, code=code_of(failure.reason), param=param)


def _of_miner(request: Asked, error: JobFailed, place: int) -> OpenAIError:
    words = _Words(request, place)
    message, param = str(error), None
    if error.blamed is not None:
        param = words.name_of(_of_job(error.blamed))
        if param is not None:
            message = _renamed(error, param)
    elif error.is_too_long:
        names = (words.name_of((name,)) for name in _PROMPTS)
        param = next((name for name in names if name is not None), None)
    told = OpenAIError(error.status, message, code=error.code, param=param)
    told.may_retry = error.may_retry
    return told


class _Words:
    """What the request of a job calls its fields."""

    def __init__(self, request: Asked, place: int) -> None:
        self._request = request
        self._places = request.places(place)

    def name_of(self, path: Path, *, has_nul: bool = False) -> str | None:
        """Returns what a field was called by its caller, or would have been; None of others."""
        origin = origin_of(self._request, path, self._places, has_nul=has_nul)
        return path_text(origin) or _unsent(path, type(self._request).model_fields)

    def mentioned(self, field: str) -> str:
        """Returns what a sentence calls a field."""
        path = steps_of(field)
        return (path[0] in _JOB.fields_by_name and self.name_of(path)) or field


def _unsent(path: Path, known: Collection[str]) -> str | None:
    """Returns what a field is called that was not sent; None of what no caller may send."""
    for count in range(len(path), 0, -1):
        for name in map(str, names_of(message_of(path[: count - 1]), path[count - 1])):
            if name.partition(".")[0] in known:
                return name
    return None


def _renamed(error: JobFailed, name: str) -> str:
    return f"{name}: {str(error).removeprefix(f'{error.blamed}: ')}"


def _of_job(name: str) -> Path:
    """Returns the path of a field that a miner named, as engines do: without what holds it."""
    path = steps_of(name)
    first, *below = path
    if first == "messages" and len(below) > 1 and below[1] == "content":
        # To an engine, the parts of a message are its content.
        return ("messages", below[0], "parts", *below[2:])
    if first == "input":
        return ("inputs", *below)
    if first in _JOB.fields_by_name:
        return path
    for holder in _HOLDERS:
        message = message_of((holder,))
        for field in message.fields_by_name if message else ():
            # The servers behind some engines speak as clients of this API do.
            if first == field or first in names_of(message, field):
                return (holder, field, *below)
    return path

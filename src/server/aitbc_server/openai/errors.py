"""Failures in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import orjson
from pydantic import ValidationError

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import failure_of
from aitbc_server.domain.errors import Unauthenticated
from aitbc_server.domain.job_errors import CLIENTS_CODES
from aitbc_server.openai.origins import path_text
from aitbc_server.rest.asgi import Headers, Response, json_response
from aitbc_server.rest.errors import error_response

_INVALID = "invalid_request_error"
# What conflicts does so until somebody does something: a job that was cancelled on purpose would be
# run again.
_CONFLICT = 409
# Kind of a validation error of a parameter that the table of parameters refuses. It is that of the
# object that has it; `name` in its context says which.
UNSUPPORTED = "unsupported_parameter"
# Characters of what a client sent that an error repeats.
_MOST_OF_VALUE = 64
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_KEPT_HEADERS = (
    b"retry-after",
    b"ratelimit",
    b"ratelimit-policy",
    b"allow",
    b"connection",
    b"www-authenticate",
)
# What OpenAI has words of its own for. All else keeps the coordinator's, in lower case.
_CODES = {
    "BAD_REQUEST": "invalid_value",
    "BUDGET_EXHAUSTED": "insufficient_quota",
    "INVALID_ARGUMENT": "invalid_value",
    "RATE_LIMITED": "rate_limit_exceeded",
    "ROUTE_NOT_FOUND": "unknown_url",
    "UNSUPPORTED_PART": "unsupported_parameter",
}
# Where clients of this API look for what a sentence says.
_MESSAGES = {
    Unauthenticated.reason: "an API key is required: send it as Authorization: Bearer KEY",
}
# An object, in the words of the library that reads requests.
_CLASS = re.compile(r"valid dictionary(?: or instance of \w+)?")
# A miner's refusal begins with the parameter that is to blame, where one is.
_BLAMED = re.compile(r"([a-z_]+(?:\[\d+\]|\.[a-z_]+)*): ")


class OpenAIError(Exception):
    """A request that fails for a reason that only this API has."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        # Whether the official clients may send it again by themselves, as they do with 409 and 5xx.
        self.may_retry = status != _CONFLICT
        self.code = code
        self.param = param


class JobFailed(OpenAIError):
    """The job of a request has no result."""

    def __init__(self, job: jobs_pb2.Job) -> None:
        code, message = job.error.code, job.error.message
        status = 500
        if job.status == jobs_pb2.JOB_STATUS_CANCELLED:
            status = 409
        elif code in CLIENTS_CODES or code == "MODEL_NOT_SERVED":
            status = 400
        elif code == "JOB_TOO_LARGE":
            status = 413
        elif code == "DEADLINE_EXCEEDED":
            status = 504
        elif code == "ENGINE_BUSY":
            status = 503
        super().__init__(
            status,
            message or "the job has no result",
            code=code_of(code) or None,
        )
        self.job_id = job.job_id
        blamed = _BLAMED.match(message) if status == 400 else None
        # The field that its miner blames, in the miner's words.
        self.blamed = blamed[1] if blamed else None
        # Whether its prompt is longer than its model takes.
        self.is_too_long = code == "CONTEXT_LENGTH_EXCEEDED"
        # Miners ended while they had it: another round would end more.
        self.may_retry &= code != "POISON"


class AnswerRestarted(OpenAIError):
    """What was streamed is void, which this API cannot say."""

    def __init__(self) -> None:
        message = (
            "the miner was lost, and another one began the answer anew: send the request again"
        )
        super().__init__(502, message, code="answer_restarted")


def model_not_found(model: str, served: Iterable[str]) -> OpenAIError:
    """Returns the error of a model that no miner has, naming those that some have."""
    known = ", ".join(served) or "none"
    message = f"The model '{model}' does not exist. Models served now: {known}."
    return OpenAIError(404, message, code="model_not_found", param="model")


def model_unserved(model: str, absence_s: float) -> OpenAIError:
    """Returns the error of a request that waited for a model which nobody serves any more."""
    message = (
        f"No miner has served the model '{model}' for {absence_s:g} seconds, and the request waits "
        "no longer: send it again when one does."
    )
    return OpenAIError(503, message, code="no_miner", param="model")


def invalid(error: ValidationError) -> OpenAIError:
    """Returns the error of a request that does not fit its schema, naming the first wrong field."""
    first = error.errors(include_url=False)[0]
    param = _path(first["loc"])
    if first["type"] == UNSUPPORTED:
        context = first["ctx"]
        return unsupported(_path((*first["loc"], context["name"])), context["why"])
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _of_no_kind(param, first["input"])
    if first["type"] == "missing":
        return missing(param)
    problem = first["msg"].removeprefix("Value error, ")
    # JSON has lists, which are read as tuples, and objects, which are read as classes of ours.
    problem = _CLASS.sub("valid object", problem)
    problem = problem.replace("valid tuple", "valid list").replace("Tuple should", "List should")
    problem = problem.replace("Dictionary should", "Object should")
    problem = problem.replace(" after validation", "")
    told = f"Invalid '{param}': {problem}{_got(first['input'])}"
    return OpenAIError(400, told, code="invalid_value", param=param)


def _of_no_kind(param: str, value: object) -> OpenAIError:
    """Returns the error of what is none of the objects that may be there."""
    if not isinstance(value, dict):
        problem = f"Invalid '{param}': Input should be a valid object{_got(value)}"
        return OpenAIError(400, problem, code="invalid_value", param=param)
    kind = value.get("type")
    if kind is None:
        return missing(f"{param}.type")
    told = repr(kind[:_MOST_OF_VALUE]) if isinstance(kind, str) else "that is no text"
    message = f"Unsupported parameter: '{param}' is of the type {told}, which is not supported."
    return OpenAIError(400, message, code="unsupported_parameter", param=param)


def missing(param: str) -> OpenAIError:
    """Returns the error of a parameter that is not there."""
    message = f"Missing required parameter: '{param}'."
    return OpenAIError(400, message, code="missing_required_parameter", param=param)


def too_many_answers(why: str) -> OpenAIError:
    """Returns the error of a request that asks for more answers than one may."""
    return OpenAIError(400, f"Invalid 'n': {why}.", code="invalid_value", param="n")


def unsupported(param: str, why: str) -> OpenAIError:
    """Returns the error of a parameter, or a value of it, that is not supported."""
    message = f"Unsupported parameter: '{param}': {why}."
    return OpenAIError(400, message, code="unsupported_parameter", param=param)


def code_of(reason: str) -> str:
    """Returns the code that tells a client what a reason of the coordinator's says."""
    return _CODES.get(reason) or reason.lower()


def openai_response(
    error: Exception,
    where: str,
    headers: Headers = (),
    messages: Mapping[str, str] = _MESSAGES,
) -> Response:
    """Returns what a client is told of an error.

    `messages`: of some reasons, what is told in place of the coordinator's own words.
    """
    if isinstance(error, OpenAIError):
        told, kept = error, []
    else:
        known = error_response(error, where)
        told = _translated(error, known, messages)
        kept = [header for header in known.headers if header[0] in _KEPT_HEADERS]
    if not told.may_retry:
        kept.append((b"x-should-retry", b"false"))
    return json_response(told.status, error_body(told), [*headers, *kept])


def error_body(error: OpenAIError) -> bytes:
    """Returns the JSON of an error."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else _INVALID)
    told = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told})


def in_stream(error: Exception, where: str) -> bytes:
    """Returns the JSON of an error that ends a stream."""
    if isinstance(error, OpenAIError):
        return error_body(error)
    return error_body(_translated(error, error_response(error, where), _MESSAGES))


def _translated(error: Exception, known: Response, messages: Mapping[str, str]) -> OpenAIError:
    told = orjson.loads(known.text)
    reason, field = told["error_code"], failure_of(error).field
    message = messages.get(reason) or told["detail"]
    return OpenAIError(known.status, message, code=code_of(reason), param=field)


def _got(value: object) -> str:
    """Returns what an error says of a value, if it is a short one."""
    if not isinstance(value, str | int | float):
        return ""
    text = (
        str(value)
        if isinstance(value, int | float)
        else orjson.dumps(value[:_MOST_OF_VALUE]).decode()
    )
    return f", got {text}" if len(text) <= _MOST_OF_VALUE else ""


def _path(location: tuple[int | str, ...]) -> str:
    # Left out are tags, and what of a member of a map is wrong.
    return path_text(
        tuple(
            step
            for step in location
            if isinstance(step, int) or not (step.startswith("(") or step == "[key]")
        )
    )

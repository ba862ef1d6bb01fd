"""Failures in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson
from pydantic import ValidationError

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import failure_of
from aitbc_server.rest.asgi import Headers, Response, json_response
from aitbc_server.rest.errors import error_response

_INVALID = "invalid_request_error"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_KEPT_HEADERS = (
    b"retry-after",
    b"ratelimit",
    b"ratelimit-policy",
    b"allow",
    b"connection",
    b"www-authenticate",
)
# A miner's refusal begins with the parameter that is to blame, where one is.
_BLAMED = re.compile(r"([a-z_]+(?:\[\d+\])?): ")
# Where fields of a job have other names in OpenAI's API: the longest prefix that fits is cut.
_PREFIXES = ("params.", "jobs[0].params.", "jobs[0].")


class OpenAIError(Exception):
    """A request that fails for a reason that only this API has."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class JobFailed(OpenAIError):
    """The job of a request has no result."""

    def __init__(self, job: jobs_pb2.Job) -> None:
        code, message = job.error.code, job.error.message
        status = 500
        if job.status == jobs_pb2.JOB_STATUS_CANCELLED:
            status = 409
        elif code in ("BAD_REQUEST", "MODEL_NOT_SERVED"):
            status = 400
        elif code == "DEADLINE_EXCEEDED":
            status = 504
        blamed = _BLAMED.match(message) if status == 400 else None
        super().__init__(
            status,
            message or "the job has no result",
            code=code.lower() or None,
            param=blamed[1] if blamed else None,
        )


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


def invalid(error: ValidationError) -> OpenAIError:
    """Returns the error of a request that does not fit its schema, naming the first wrong field."""
    first = error.errors(include_url=False, include_input=False)[0]
    param = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        message = f"Unsupported parameter: '{param}' is not supported."
        return OpenAIError(400, message, code="unsupported_parameter", param=param)
    if first["type"] == "missing":
        message = f"Missing required parameter: '{param}'."
        return OpenAIError(400, message, code="missing_required_parameter", param=param)
    problem = first["msg"].removeprefix("Value error, ")
    return OpenAIError(400, f"Invalid '{param}': {problem}", code="invalid_value", param=param)


def unsupported(param: str, why: str) -> OpenAIError:
    """Returns the error of a parameter, or a value of it, that is not supported."""
    message = f"Unsupported parameter: '{param}': {why}."
    return OpenAIError(400, message, code="unsupported_parameter", param=param)


def openai_response(error: Exception, where: str, headers: Headers = ()) -> Response:
    """Returns what a client is told of an error."""
    if isinstance(error, OpenAIError):
        return json_response(error.status, error_body(error), headers)
    known = error_response(error, where)
    kept = [header for header in known.headers if header[0] in _KEPT_HEADERS]
    body = error_body(_translated(error, known))
    return json_response(known.status, body, [*headers, *kept])


def error_body(error: OpenAIError) -> bytes:
    """Returns the JSON of an error."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else _INVALID)
    told = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told})


def in_stream(error: Exception, where: str) -> bytes:
    """Returns the JSON of an error that ends a stream."""
    if isinstance(error, OpenAIError):
        return error_body(error)
    return error_body(_translated(error, error_response(error, where)))


def _translated(error: Exception, known: Response) -> OpenAIError:
    told = orjson.loads(known.body)
    field = failure_of(error).field
    message: str = told["detail"]
    if field is not None:
        for prefix in _PREFIXES:
            if field.startswith(prefix):
                message = message.replace(field, field.removeprefix(prefix), 1)
                field = field.removeprefix(prefix)
    return OpenAIError(known.status, message, code=told["error_code"].lower(), param=field)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path

"""What vLLM's refusals mean to the client of a job: which of its fields is to blame, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aitbc_miner.engines.base import Job, Params
from aitbc_miner.engines.tools import is_calling
from aitbc_miner.errors import CONTEXT_LENGTH_EXCEEDED, BadRequest

# vLLM's names for a prompt that the context does not take.
_TOO_LONG = {"input_tokens", "input_text"}
# Names that a job has for vLLM's.
_NAMES = {
    "top_logprobs": "logprobs",
    "vllm_xargs": "extra_args",
    "structured_outputs": "response_format",
    "max_completion_tokens": "max_tokens",
}
# What vLLM says of a form that it cannot hold an answer to, and never of anything else.
_OF_FORMS = ("grammar", "schema", "structural", "regex", "structured", "json", "choice")


def refused(job: Job, error: Exception, field: str | None = None) -> BadRequest:
    """Returns what the job's client is told of what vLLM raised.

    `field`: to blame where vLLM names none.
    """
    # str() would show the refused value, which may be the prompt.
    text = str(error.args[0]) if error.args else type(error).__name__
    parameter = getattr(error, "parameter", None)
    if parameter in _TOO_LONG:
        return BadRequest(text, reason=CONTEXT_LENGTH_EXCEEDED)
    name = _NAMES.get(parameter, parameter) if isinstance(parameter, str) else None
    first = text.partition(" ")[0]
    if name is None and first in Params.__annotations__:
        name = first
    if name is None and any(word in text.lower() for word in _OF_FORMS):
        return form_refused(job, text)
    if name is None and " prompt " in text:
        name = prompt_field(job)
    name = name or field
    return BadRequest(f"{name}: {text}" if name else text)


def form_refused(job: Job, why: str) -> BadRequest:
    """Returns what the job's client is told of a form that an answer cannot be held to."""
    field = form_field(job)
    if field == "tools":
        # vLLM speaks of what it makes of them.
        why = f"vLLM cannot hold a call to the JSON Schema of these tools ({why})"
    return BadRequest(f"{field}: {why}")


def form_field(job: Job) -> str:
    """Returns the field of the job that holds its answer to a form."""
    return "response_format" if job.form is not None or not is_calling(job) else "tools"


def prompt_field(job: Job) -> str:
    """Returns the field of the job that its prompt comes from."""
    if job.messages:
        return "messages"
    return "prompt" if job.prompt is not None else "prompt_token_ids"


@contextmanager
def refusing(job: Job, field: str | None = None) -> Iterator[None]:
    """Turns what vLLM says of the client's fault into a BadRequest.

    `field`: to blame where vLLM names none.
    """
    from pydantic import ValidationError
    from vllm.exceptions import VLLMClientError

    try:
        yield
    except VLLMClientError as error:
        raise refused(job, error, field) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = str(first["loc"][0]) if first["loc"] else form_field(job)
        raise BadRequest(f"{_NAMES.get(where, where)}: {first['msg']}") from error

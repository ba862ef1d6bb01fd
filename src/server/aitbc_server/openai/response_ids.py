"""Names of responses and of their items: each says of which job it is."""

from __future__ import annotations

import re

from aitbc_server.domain.ids import JOB_PREFIX
from aitbc_server.openai.errors import OpenAIError

_PREFIX = "resp_"
# As far as a job may have such a name.
_RESPONSE = re.compile(rf"{_PREFIX}[0-9a-z]{{1,64}}")
_ITEM = re.compile(r"(?:msg|rs|fc|ctc|fco|ctco)_([0-9a-z]{26})(?:_[0-9a-z_]{1,24})?")


def response_id_of(job_id: str) -> str:
    """Returns the name of a job's response."""
    return _PREFIX + job_id.removeprefix(JOB_PREFIX)


def job_id_of(response_id: str, param: str = "response_id") -> str:
    """Returns the job of a response. Raises OpenAIError."""
    if _RESPONSE.fullmatch(response_id) is None:
        raise response_not_found(response_id, param)
    return JOB_PREFIX + response_id.removeprefix(_PREFIX)


def item_id(kind: str, job_id: str, *place: int | str) -> str:
    """Returns the name of an item: the only one of its kind in a job, or one at a place."""
    return "_".join((kind, job_id.removeprefix(JOB_PREFIX), *map(str, place)))


def job_id_of_item(name: str) -> str | None:
    """Returns the job that an item is of; None when the name is none of ours."""
    found = _ITEM.fullmatch(name)
    return JOB_PREFIX + found[1] if found is not None else None


def response_not_found(response_id: str, param: str = "response_id") -> OpenAIError:
    """Returns the error of a response that is not there; `param` says who named it."""
    named = f"with id '{response_id[:100]}' not found."
    if param == "previous_response_id":
        # As OpenAI answers: what is not there is a part of the request.
        code = "previous_response_not_found"
        return OpenAIError(400, f"Previous response {named}", code=code, param=param)
    return OpenAIError(404, f"Response {named}", code="response_not_found", param=param)

"""A job as the JSON that the REST API answers, read back."""

from __future__ import annotations

from aitbc.v1 import jobs_pb2
from aitbc_server.bounded_json import JsonError, read_json
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.codec import decoder

_decode = decoder(jobs_pb2.Job.DESCRIPTOR)


def job_in(text: str) -> jobs_pb2.Job:
    """Returns the job that a text is. Raises InvalidArgument."""
    try:
        value = read_json(text.encode())
    except JsonError as error:
        raise InvalidArgument("job", str(error)) from None
    if type(value) is not dict:
        raise InvalidArgument("job", "must be a job as JSON")
    try:
        return jobs_pb2.Job(**_decode(value))
    except InvalidArgument as error:
        raise InvalidArgument(f"job.{error.field}", error.problem) from None

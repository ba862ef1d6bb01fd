"""The jobs of one request, each of which may repeat much of it."""

from __future__ import annotations

from collections.abc import Iterable

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.errors import OpenAIError

# What one call of the coordinator may have, unless its settings say otherwise.
MOST_BYTES = 8 * 1024 * 1024


def together(
    jobs: Iterable[jobs_pb2.SubmitJobRequest], most_bytes: int, param: str, each: str
) -> list[jobs_pb2.SubmitJobRequest]:
    """Returns jobs that one call may have. Raises OpenAIError as soon as they are too large.

    They are made one by one, so that no more of them is ever there. `param`: the parameter of which
    there are too many, because `each` of them repeats what the request has once.
    """
    made: list[jobs_pb2.SubmitJobRequest] = []
    size = 0
    for job in jobs:
        size += job.ByteSize()
        if made and size > most_bytes:
            raise OpenAIError(
                400,
                f"Invalid '{param}': {each}, which makes more than {most_bytes:,} bytes together:"
                " ask for fewer.",
                code="invalid_value",
                param=param,
            )
        made.append(job)
    return made

"""What a response repeats of its request and a job has no field for: kept as the job's notes."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from aitbc.v1 import jobs_pb2


class Notes(BaseModel):
    """What is noted of one request."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    # Whether the first of the job's messages is the instructions.
    has_instructions: bool = False
    # Whether what the model thinks is not told.
    hides_reasoning: bool = False
    # Which of the tools are custom, and what those within namespaces are called there.
    custom: frozenset[str] = frozenset()
    namespaces: dict[str, tuple[str, str]] = {}
    # The tools as they are told, each the place of the job's or, of those that no model is told of,
    # itself. Absent when all of them are functions of the job.
    tools: list[int | dict[str, Any]] | None = None
    # What the form of the text has beside its schema, and how long-winded the text is to be.
    form: dict[str, Any] = {}
    verbosity: str | None = None
    # Other fields of the response, as they are told.
    shown: dict[str, Any] = {}

    def text(self) -> str:
        """Returns them as a job has them."""
        return orjson.dumps(
            {"response": self.model_dump(mode="json", exclude_defaults=True)}
        ).decode()


def notes_of(job: jobs_pb2.Job) -> Notes:
    """Returns the notes of a job: none of one that another API made, or that notes otherwise."""
    if not job.api_notes:
        return Notes()
    try:
        noted = orjson.loads(job.api_notes)
        return Notes.model_validate(noted["response"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError):
        return Notes()

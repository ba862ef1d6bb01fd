"""What requests say in their query: dealt with by the table of parameters, as their bodies are."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import Field, StringConstraints

from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.schema import Includable, Name, Schema, Several

_MOST_FIELDS = 100
# Sequence numbers are JSON numbers, which every client reads exactly.
_MOST = 2**53

Order = Literal["asc", "desc"]
_Cursor = Annotated[str, StringConstraints(max_length=64, pattern="^[^\\x00]*$")]
_Included = Annotated[Several[Includable], Field(max_length=32)]
# What is a list, which clients write as `include[]=a` or `include=a`.
_LISTS = ("include",)


class Query(Schema, table="query"):
    """The query of a request that takes nothing in it."""


class ResponseQuery(Query, table="response_query"):
    """How a response is told."""

    stream: bool = False
    starting_after: Annotated[int, Field(ge=0, lt=_MOST)] | None = None
    include: _Included = ()

    @property
    def after(self) -> int:
        """Number of the last event that the reader has."""
        return -1 if self.starting_after is None else self.starting_after

    @property
    def includes(self) -> frozenset[str]:
        """What is told beside what always is."""
        return frozenset(self.include)


class ItemsQuery(Query, table="items_query"):
    """Which page of the items of a response is told."""

    after: Name = ""
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Order = "desc"
    include: _Included = ()


class FilesQuery(Query, table="files_query"):
    """Which files are listed."""

    purpose: Name = ""
    after: _Cursor = ""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    order: Order = "desc"


class BatchesQuery(Query, table="batches_query"):
    """Which batches are listed."""

    after: _Cursor = ""
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class ModelsQuery(Query, table="models_query"):
    """Which page of the models is told, in Anthropic's words."""

    after_id: Name = ""
    before_id: Name = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 20


def members_of(query: bytes) -> dict[str, Any]:
    """Returns a query as the object that it would be as a body. Raises OpenAIError.

    Of what comes more than once and is no list, the last counts.
    """
    try:
        text = query.decode("latin-1")
        given = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise OpenAIError(400, "the query has too many parameters", code="invalid_value") from None
    members: dict[str, Any] = {}
    for name, value in given:
        name = name.removesuffix("[]")
        if name in _LISTS:
            # `include[]=` is how some say that there is nothing in it.
            members.setdefault(name, []).extend([value] if value else [])
        else:
            members[name] = value
    return members

"""Forms that an answer is held to, in each of the words that clients have for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.errors import missing, unsupported
from aitbc_server.openai.origins import Places
from aitbc_server.openai.ruled import counted, sized
from aitbc_server.openai.schema import Asked, Schema, Several, by_type, json_text
from aitbc_server.openai.tools import JsonSchema, form

_FORM = jobs_pb2.ResponseFormat.DESCRIPTOR
# A JSON Schema or another JSON object, also as its text.
_JSON = Annotated[
    Annotated[dict[str, Any], Tag("(object)")]
    | Annotated[str, sized(_FORM, "json_schema"), StringConstraints(min_length=1), Tag("(text)")],
    Discriminator(lambda value: "(text)" if isinstance(value, str) else "(object)"),
]
_Regex = Annotated[str, sized(_FORM, "regex"), StringConstraints(min_length=1)]
_Choices = Annotated[
    Several[Annotated[str, sized(_FORM, "choices")]],
    counted(_FORM, "choices"),
    Field(min_length=1),
]
_Grammar = Annotated[str, sized(_FORM, "grammar"), StringConstraints(min_length=1)]


class TextFormat(Schema):
    """Any form."""

    type: Literal["text"]


class ObjectFormat(Schema):
    """A JSON object, of any form or, as some servers have it, that a schema describes."""

    type: Literal["json_object"]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class SchemaFormat(Schema):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class TagFormat(Schema):
    """Free text with parts, between tags, that schemas describe: either of vLLM's two spellings."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("format", "structures", "triggers")
            ]
        }
    )

    type: Literal["structural_tag"]
    format: Any = None
    structures: Any = None
    triggers: Any = None


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("(text)")]
    | Annotated[ObjectFormat, Tag("(json_object)")]
    | Annotated[SchemaFormat, Tag("(json_schema)")]
    | Annotated[TagFormat, Tag("(structural_tag)")],
    Discriminator(by_type),
]


class StructuredOutputs(Schema, table="structured_outputs"):
    """vLLM's own: one of several forms."""

    as_json: _JSON | None = Field(default=None, alias="json")
    regex: _Regex | None = None
    choice: _Choices | None = None
    grammar: _Grammar | None = None
    json_object: bool = False
    structural_tag: _JSON | None = None

    def forms(self) -> Iterator[jobs_pb2.ResponseFormat]:
        """Yields the forms that it asks for."""
        if self.as_json is not None:
            yield schema_form(self.as_json)
        if self.regex is not None:
            yield regex_form(self.regex)
        if self.choice is not None:
            yield choice_form(self.choice)
        if self.grammar is not None:
            yield grammar_form(self.grammar)
        if self.json_object:
            yield form("json_object", {})
        if self.structural_tag is not None:
            yield _tag_form(self.structural_tag)


def response_form(asked: ResponseFormat) -> jobs_pb2.ResponseFormat | None:
    """Returns the form that a `response_format` asks for. Raises OpenAIError."""
    if isinstance(asked, TextFormat):
        return None
    if isinstance(asked, SchemaFormat):
        return form("json_schema", asked.json_schema.json_schema)
    if isinstance(asked, ObjectFormat):
        schema = asked.json_schema
        return form("json_object", {}) if schema is None else form("json_schema", schema)
    told = asked.model_dump(exclude_none=True)
    if not told.keys() > {"type"}:
        raise missing("response_format.format")
    return _tag_form(told)


def schema_form(schema: dict[str, Any] | str) -> jobs_pb2.ResponseFormat:
    """Returns the form of JSON that a schema describes."""
    return jobs_pb2.ResponseFormat(
        type=jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, json_schema=_text(schema)
    )


def regex_form(regex: str) -> jobs_pb2.ResponseFormat:
    """Returns the form of texts that a regular expression matches."""
    return jobs_pb2.ResponseFormat(type=jobs_pb2.RESPONSE_FORMAT_TYPE_REGEX, regex=regex)


def choice_form(choices: tuple[str, ...]) -> jobs_pb2.ResponseFormat:
    """Returns the form of one of several texts."""
    return jobs_pb2.ResponseFormat(type=jobs_pb2.RESPONSE_FORMAT_TYPE_CHOICE, choices=choices)


def grammar_form(grammar: str) -> jobs_pb2.ResponseFormat:
    """Returns the form of the texts of a grammar."""
    return jobs_pb2.ResponseFormat(type=jobs_pb2.RESPONSE_FORMAT_TYPE_GRAMMAR, grammar=grammar)


class Guided(Asked):
    """The form of an answer, in all words for it."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # Of vLLM before `structured_outputs`, and of servers that went on with it.
    guided_json: _JSON | None = None
    guided_regex: _Regex | None = None
    guided_choice: _Choices | None = None
    guided_grammar: _Grammar | None = None

    def form(self) -> jobs_pb2.ResponseFormat | None:
        """Returns the form that is asked for. Raises OpenAIError."""
        asked = list(self._forms())
        if len(asked) > 1:
            name = asked[1][0]
            raise unsupported(name, f"an answer has one form, and {asked[0][0]} gives one")
        return asked[0][1] if asked else None

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        names = [name for name, _ in self._forms()]
        places = super().places(job)
        return {**places, ("response_format",): [(names[0],)]} if names else places

    def _forms(self) -> Iterator[tuple[str, jobs_pb2.ResponseFormat]]:
        """Yields the forms that are asked for, each with the parameter that does."""
        if self.response_format is not None:
            told = response_form(self.response_format)
            if told is not None:
                yield "response_format", told
        if self.structured_outputs is not None:
            for one in self.structured_outputs.forms():
                yield "structured_outputs", one
        if self.guided_json is not None:
            yield "guided_json", schema_form(self.guided_json)
        if self.guided_regex is not None:
            yield "guided_regex", regex_form(self.guided_regex)
        if self.guided_choice is not None:
            yield "guided_choice", choice_form(self.guided_choice)
        if self.guided_grammar is not None:
            yield "guided_grammar", grammar_form(self.guided_grammar)


def _tag_form(tag: dict[str, Any] | str) -> jobs_pb2.ResponseFormat:
    return jobs_pb2.ResponseFormat(
        type=jobs_pb2.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG, structural_tag=_text(tag)
    )


def _text(value: dict[str, Any] | str) -> str:
    return value if isinstance(value, str) else json_text(value)

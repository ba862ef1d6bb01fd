"""Forms of answers and tools, in the words of chat requests and of responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.custom_tools import PARAMETERS
from aitbc_server.openai.errors import UNSUPPORTED, OpenAIError
from aitbc_server.openai.ruled import sized
from aitbc_server.openai.schema import Name, Prose, Schema, json_text

_FORMS = {
    "text": jobs_pb2.RESPONSE_FORMAT_TYPE_TEXT,
    "json_object": jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT,
    "json_schema": jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
}


class JsonSchema(Schema):
    """A schema with a name."""

    name: Name
    description: Prose = ""
    json_schema: dict[str, Any] = Field(alias="schema")
    # An answer is always held to its schema.
    strict: bool = True


class Function(Schema):
    """A function that the model may ask to have called."""

    name: Name
    description: Annotated[str, sized(jobs_pb2.Tool.DESCRIPTOR, "description")] = ""
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def tool(self) -> jobs_pb2.Tool:
        """Returns it as a job has it."""
        return jobs_pb2.Tool(
            name=self.name,
            description=self.description,
            parameters=json_text(self.parameters) if self.parameters else "",
            strict=self.strict,
        )


class FreeText(Schema):
    """The format of an input that is a free text."""

    type: Literal["text"]

    @model_validator(mode="before")
    @classmethod
    def _is_free(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") == "grammar":
            why = "no input is held to a grammar here"
            raise PydanticCustomError(UNSUPPORTED, "{why}", {"name": "type", "why": why})
        return data


class CustomFunction(Schema, table="response_tool"):
    """A tool whose input is a free text: to a job, a function of one argument."""

    name: Name
    description: Annotated[str, sized(jobs_pb2.Tool.DESCRIPTOR, "description")] = ""
    format: FreeText | None = None

    def tool(self) -> jobs_pb2.Tool:
        """Returns it as a job has it."""
        return jobs_pb2.Tool(
            name=self.name,
            description=self.description,
            parameters=json_text(PARAMETERS),
        )


class FunctionName(Schema):
    """Names a function."""

    name: Name


Mode = Literal["auto", "none", "required"]
# What JSON Schema says of requests with a choice: without tools there is none.
CHOICE_NEEDS_TOOLS: dict[str, Any] = {
    "tool_choice": {
        "anyOf": [
            {"properties": {"tool_choice": {"enum": [None, "auto", "none"]}}},
            {"properties": {"tools": {"type": "array", "minItems": 1}}, "required": ["tools"]},
        ]
    }
}


def form(kind: str, schema: dict[str, Any]) -> jobs_pb2.ResponseFormat:
    """Returns a form as a job has it."""
    text = json_text(schema) if kind == "json_schema" else ""
    return jobs_pb2.ResponseFormat(type=_FORMS[kind], json_schema=text)


def add_tools(
    job: jobs_pb2.SubmitJobRequest,
    functions: Sequence[Function | CustomFunction],
    choice: str | None,
    *,
    is_parallel: bool | None,
) -> None:
    """Adds tools to a job. Raises OpenAIError."""
    if not functions and choice not in (None, "auto", "none"):
        raise no_tools()
    job.tools.extend(function.tool() for function in functions)
    if functions:
        job.tool_choice = choice or ""
        if is_parallel is not None:
            job.parallel_tool_calls = is_parallel


def no_tools() -> OpenAIError:
    """Returns the error of a choice among no tools."""
    return OpenAIError(
        400,
        "Invalid 'tool_choice': there are no tools to choose from: give them in 'tools'.",
        code="invalid_value",
        param="tool_choice",
    )

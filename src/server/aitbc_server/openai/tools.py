"""Forms of answers and tools, in the words of chat requests and of responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.schema import Schema, json_text

_FORMS = {
    "text": jobs_pb2.RESPONSE_FORMAT_TYPE_TEXT,
    "json_object": jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT,
    "json_schema": jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
}


class JsonSchema(Schema):
    """A schema with a name."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str
    description: str = ""
    json_schema: dict[str, Any] = Field(default={}, alias="schema")
    # An answer is always held to its schema.
    strict: bool = True


class Function(Schema):
    """A function that the model may ask to have called."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False

    def tool(self) -> jobs_pb2.Tool:
        """Returns it as a job has it."""
        return jobs_pb2.Tool(
            name=self.name,
            description=self.description,
            parameters=json_text(self.parameters) if self.parameters else "",
            strict=self.strict,
        )


class FunctionName(Schema):
    """Names a function."""

    name: str


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
    functions: Sequence[Function],
    choice: str | None,
    *,
    is_parallel: bool | None,
) -> None:
    """Adds tools to a job. Raises OpenAIError."""
    if not functions and choice not in (None, "auto", "none"):
        raise OpenAIError(
            400,
            "Invalid 'tool_choice': there are no tools to choose from: give them in 'tools'.",
            code="invalid_value",
            param="tool_choice",
        )
    job.tools.extend(function.tool() for function in functions)
    if functions:
        job.tool_choice = choice or ""
        if is_parallel is not None:
            job.parallel_tool_calls = is_parallel

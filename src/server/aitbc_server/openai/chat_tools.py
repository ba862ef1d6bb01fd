"""Tools of a chat, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.origins import Places
from aitbc_server.openai.ruled import counted
from aitbc_server.openai.schema import Schema, Several
from aitbc_server.openai.tools import CustomFunction, Function, FunctionName, Mode

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR


class ChatTool(Schema, table="tool"):
    """A function."""

    type: Literal["function"] = "function"
    function: Function

    @property
    def called(self) -> Function:
        """What it is to a job."""
        return self.function


class ChatCustomTool(Schema, table="tool"):
    """A tool whose input is a free text."""

    type: Literal["custom"]
    custom: CustomFunction

    @property
    def called(self) -> CustomFunction:
        """What it is to a job."""
        return self.custom


class ChatToolChoice(Schema):
    """Names the function to call."""

    type: Literal["function"] = "function"
    function: FunctionName

    @property
    def name(self) -> str:
        """The name."""
        return self.function.name


class ChatCustomChoice(Schema):
    """Names the custom tool to call."""

    type: Literal["custom"]
    custom: FunctionName

    @property
    def name(self) -> str:
        """The name."""
        return self.custom.name


def _kind_of(value: Any) -> str | None:
    if isinstance(value, str):
        return "(mode)"
    kind = value.get("type") if isinstance(value, dict) else value
    if kind is None:
        kind = "function"
    return f"({kind})" if isinstance(kind, str) else None


# Only what it says that it is, is looked at.
Tool = Annotated[
    Annotated[ChatTool, Tag("(function)")] | Annotated[ChatCustomTool, Tag("(custom)")],
    Discriminator(_kind_of),
]
_Named = Annotated[
    Annotated[ChatToolChoice, Tag("(function)")] | Annotated[ChatCustomChoice, Tag("(custom)")],
    Discriminator(_kind_of),
]


class ChatAllowedTools(Schema):
    """Which tools the model may call, and whether it must call one."""

    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[Several[_Named], counted(_SUBMIT, "tools"), Field(min_length=1)]


class ChatAllowedChoice(Schema):
    """Names the tools that may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: ChatAllowedTools


ToolChoice = Annotated[
    Annotated[Mode, Tag("(mode)")]
    | Annotated[ChatToolChoice, Tag("(function)")]
    | Annotated[ChatCustomChoice, Tag("(custom)")]
    | Annotated[ChatAllowedChoice, Tag("(allowed_tools)")],
    Discriminator(_kind_of),
]


def tool_places(tools: Sequence[Tool], choice: ToolChoice | None) -> Places:
    """Returns where the tools that may be called came from."""
    names = [tool.called.name for tool in tools]
    if isinstance(choice, ChatAllowedChoice):
        allowed = {one.name for one in choice.allowed_tools.tools}
    else:
        allowed = set(names)
    kept = [origin for origin, name in enumerate(names) if name in allowed]
    return {("tools", place): [("tools", origin)] for place, origin in enumerate(kept)}


def chosen(
    tools: Sequence[Tool], choice: ToolChoice | None
) -> tuple[list[Function | CustomFunction], str | None]:
    """Returns the tools that may be called, and the choice among them. Raises OpenAIError."""
    called = [tool.called for tool in tools]
    if choice is None or isinstance(choice, str):
        return called, choice
    if not isinstance(choice, ChatAllowedChoice):
        return called, choice.name
    allowed = choice.allowed_tools.tools
    known = {one.name for one in called}
    for place, one in enumerate(allowed):
        if one.name not in known:
            where = f"tool_choice.allowed_tools.tools[{place}].{one.type}.name"
            raise OpenAIError(
                400,
                f"Invalid '{where}': {one.name!r} is none of the tools.",
                code="invalid_value",
                param=where,
            )
    names = {one.name for one in allowed}
    return [one for one in called if one.name in names], choice.allowed_tools.mode

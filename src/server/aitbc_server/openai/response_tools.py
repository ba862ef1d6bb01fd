"""Tools of a response: those that the model may call here, and those that run at OpenAI alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, Tag, ValidationInfo, model_validator

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.errors import OpenAIError, unsupported
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.response_input import by_type, flat_name
from aitbc_server.openai.response_notes import Notes
from aitbc_server.openai.response_object import tool_object
from aitbc_server.openai.ruled import counted, sized
from aitbc_server.openai.schema import TEXT, Name, Schema, Several
from aitbc_server.openai.tools import CustomFunction, Function, FunctionName, Mode, no_tools

_Description = Annotated[str, sized(jobs_pb2.Tool.DESCRIPTOR, "description")]


class FunctionTool(Function, table="response_tool"):
    """A function."""

    type: Literal["function"]


class CustomTool(CustomFunction, table="response_tool"):
    """A tool whose input is a free text."""

    type: Literal["custom"]


class NamespaceTool(Schema):
    """Functions whose names are their own within it."""

    type: Literal["namespace"]
    name: Name
    description: _Description = ""
    tools: Annotated[
        Several[
            Annotated[
                Annotated[FunctionTool, Tag("(function)")] | Annotated[CustomTool, Tag("(custom)")],
                by_type({"function": "(function)", "custom": "(custom)"}),
            ]
        ],
        counted(jobs_pb2.SubmitJobRequest.DESCRIPTOR, "tools"),
    ]


# Types of the tools that do not run here.
_HOSTED = (
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)


class HostedTool(Schema):
    """A tool that OpenAI runs, or that its own models alone know: no model here is told of it."""

    type: Annotated[Name, Field(json_schema_extra={"enum": list(_HOSTED)})]

    @model_validator(mode="before")
    @classmethod
    def _worth_reading(cls, data: Any, info: ValidationInfo) -> Any:
        if info.context is not None:
            info.context.add(data, "type", "no tools run here")
        return {"type": data["type"]}


ResponseTool = Annotated[
    Annotated[FunctionTool, Tag("(function)")]
    | Annotated[CustomTool, Tag("(custom)")]
    | Annotated[NamespaceTool, Tag("(namespace)")]
    | Annotated[HostedTool, Tag("(hosted)")],
    by_type(
        {
            "function": "(function)",
            "custom": "(custom)",
            "namespace": "(namespace)",
            **dict.fromkeys(_HOSTED, "(hosted)"),
        }
    ),
]


class NamedChoice(FunctionName):
    """Names the tool to call."""

    type: Literal["function", "custom"]


class AllowedTool(Schema, table="allowed_tool"):
    """One of the tools that may be called."""

    # Others do not run here.
    type: Annotated[Name, Field(json_schema_extra={"enum": ["function", "custom"]})] = "function"
    name: Name = ""


def _choice(value: Any) -> str | None:
    if isinstance(value, str):
        return "(text)"
    kind = value.get("type") if isinstance(value, dict) else None
    return _CHOICES.get(kind) if isinstance(kind, str) else None


_CHOICES = {"function": "(named)", "custom": "(named)", "allowed_tools": "(allowed)"}


class AllowedChoice(Schema):
    """Names the tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        Several[AllowedTool],
        counted(jobs_pb2.SubmitJobRequest.DESCRIPTOR, "tools"),
        Field(min_length=1),
    ]


ResponseToolChoice = Annotated[
    Annotated[Mode, TEXT]
    | Annotated[NamedChoice, Tag("(named)")]
    | Annotated[AllowedChoice, Tag("(allowed)")],
    Discriminator(_choice),
]


class _Known(NamedTuple):
    """A tool of a request that the model may be told of."""

    tool: jobs_pb2.Tool
    # Namespace and name there.
    name: tuple[str, str]
    is_custom: bool
    # Where it is in the request.
    path: Path


def add_response_tools(
    job: jobs_pb2.SubmitJobRequest,
    tools: Sequence[ResponseTool],
    choice: ResponseToolChoice | None,
    *,
    is_parallel: bool | None,
) -> Notes:
    """Adds tools to a job; returns what is to be noted of them. Raises OpenAIError."""
    known = list(_known(tools))
    given = _allowed(known, choice) if isinstance(choice, AllowedChoice) else known
    if isinstance(choice, AllowedChoice):
        job.tool_choice = choice.mode
    elif isinstance(choice, NamedChoice):
        job.tool_choice = _named(known, choice.name).tool.name
    elif known:
        job.tool_choice = choice or ""
    elif choice == "required":
        raise no_tools()
    job.tools.extend(one.tool for one in given)
    if given and is_parallel is not None:
        job.parallel_tool_calls = is_parallel
    shown: dict[str, Any] = {}
    if isinstance(choice, NamedChoice | AllowedChoice):
        shown["tool_choice"] = choice.model_dump()
    # Of tools that no model is told of, the job says nothing.
    elif choice is not None and not known:
        shown["tool_choice"] = choice
    if is_parallel is False and not given:
        shown["parallel_tool_calls"] = False
    is_plain = len(given) == len(tools) and all(isinstance(one, FunctionTool) for one in tools)
    places = {one.tool.name: place for place, one in enumerate(given)}
    return Notes(
        tools=None if is_plain else [_told(tool, places) for tool in tools],
        custom=frozenset(one.tool.name for one in given if one.is_custom),
        namespaces={one.tool.name: one.name for one in given if one.name[0]},
        shown=shown,
    )


def tool_places(tools: Sequence[ResponseTool], choice: ResponseToolChoice | None) -> Places:
    """Returns where the tools that the model may be told of came from."""
    known = list(_known(tools))
    given = _allowed(known, choice) if isinstance(choice, AllowedChoice) else known
    places: dict[Path, Sequence[Path]] = {}
    for place, one in enumerate(given):
        places["tools", place] = [one.path]
        if one.name[0]:
            places["tools", place, "name"] = [(*one.path, "name"), (*one.path[:2], "name")]
    return places


def _known(tools: Sequence[ResponseTool]) -> Iterator[_Known]:
    for number, tool in enumerate(tools):
        path: Path = ("tools", number)
        if isinstance(tool, NamespaceTool):
            for place, one in enumerate(tool.tools):
                # As by vLLM: a custom tool is known outside namespaces alone.
                if isinstance(one, FunctionTool):
                    made = one.tool()
                    made.name = flat_name(tool.name, one.name)
                    below = (*path, "tools", place)
                    yield _Known(made, (tool.name, one.name), is_custom=False, path=below)
        elif not isinstance(tool, HostedTool):
            yield _Known(tool.tool(), ("", tool.name), isinstance(tool, CustomTool), path)


def _named(known: Sequence[_Known], name: str) -> _Known:
    """Returns the tool that a choice names, with its namespace or without."""
    found = [one for one in known if one.tool.name == name]
    found = found or [one for one in known if one.name[1] == name]
    if not found:
        raise OpenAIError(
            400,
            f"Invalid 'tool_choice': the tool '{name}' is not in 'tools'.",
            code="invalid_value",
            param="tool_choice",
        )
    if len(found) > 1:
        raise OpenAIError(
            400,
            f"Invalid 'tool_choice': several namespaces have the tool '{name}': name it as "
            f"'{found[0].tool.name}'.",
            code="invalid_value",
            param="tool_choice",
        )
    return found[0]


def _allowed(known: Sequence[_Known], choice: AllowedChoice) -> list[_Known]:
    """Returns the tools that a choice allows, in the order of the request."""
    for place, one in enumerate(choice.tools):
        if one.type not in ("function", "custom"):
            raise unsupported(f"tool_choice.tools[{place}]", "it does not run here")
    names = {_named(known, one.name).tool.name for one in choice.tools}
    return [one for one in known if one.tool.name in names]


def _told(tool: ResponseTool, places: Mapping[str, int], namespace: str = "") -> Any:
    """Returns a tool as it is noted: of what does not run here, its type alone.

    `places`: those of the tools that the job has.
    """
    if isinstance(tool, HostedTool):
        return {"type": tool.type}
    if isinstance(tool, CustomTool):
        told = {"type": tool.type, "name": tool.name, "format": {"type": "text"}}
        return {**told, "description": tool.description or None}
    if isinstance(tool, FunctionTool):
        name = flat_name(namespace, tool.name) if namespace else tool.name
        return places[name] if name in places else tool_object(tool.tool())
    return {
        "type": tool.type,
        "name": tool.name,
        "description": tool.description,
        "tools": [_told(one, places, tool.name) for one in tool.tools],
    }

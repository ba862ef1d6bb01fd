"""The messages of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, StringConstraints, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.content_parts import Part, add_parts, kept_of
from aitbc_server.openai.custom_tools import arguments_of
from aitbc_server.openai.origins import Places
from aitbc_server.openai.ruled import counted, sized
from aitbc_server.openai.schema import BY_FORM, LIST, TEXT, Name, Prose, Schema, Several

_TURN = jobs_pb2.ChatMessage.DESCRIPTOR
# Roles that models know by other names.
_ROLES = {"developer": "system", "function": "tool"}
_Arguments = Annotated[str, sized(jobs_pb2.ToolCall.DESCRIPTOR, "arguments")]


class CalledFunction(Schema):
    """What a call of a tool calls."""

    name: Name
    arguments: _Arguments


class Call(Schema, table="call"):
    """A call of a tool, as the assistant asked for it."""

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction

    def called(self) -> jobs_pb2.ToolCall:
        """Returns it as a job has it."""
        function = self.function
        return jobs_pb2.ToolCall(id=self.id, name=function.name, arguments=function.arguments)


class CalledTool(Schema):
    """What a call of a custom tool calls."""

    name: Name
    input: _Arguments


class CustomCall(Schema, table="call"):
    """A call of a custom tool, as the assistant asked for it."""

    id: Name
    type: Literal["custom"]
    custom: CalledTool

    def called(self) -> jobs_pb2.ToolCall:
        """Returns it as a job has it."""
        arguments = arguments_of(self.custom.input)
        return jobs_pb2.ToolCall(id=self.id, name=self.custom.name, arguments=arguments)


def _kind_of(call: Any) -> str | None:
    kind = call.get("type") if isinstance(call, dict) else call
    if kind is None:
        kind = "function"
    return f"({kind})" if isinstance(kind, str) else None


_AnyCall = Annotated[
    Annotated[Call, Tag("(function)")] | Annotated[CustomCall, Tag("(custom)")],
    Discriminator(_kind_of),
]


class ChatMessage(Schema, table="message"):
    """One turn of the conversation."""

    role: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    content: Annotated[Annotated[Prose, TEXT] | Annotated[Several[Part], LIST], BY_FORM] = ""
    name: Name = ""
    tool_calls: Annotated[Several[_AnyCall], counted(_TURN, "tool_calls")] = ()
    tool_call_id: Name = ""
    # Of before tools: one call, which has no id.
    function_call: CalledFunction | None = None
    # With what an assistant refused to answer, instead of `content`.
    refusal: Prose = ""
    # As answers tell it, in either word.
    reasoning_content: Prose = ""
    reasoning: Prose = ""

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        turn = jobs_pb2.ChatMessage(
            role=_ROLES.get(self.role, self.role),
            name=self.name,
            tool_call_id=self.tool_call_id,
            reasoning=self.reasoning or self.reasoning_content,
        )
        if isinstance(self.content, str):
            turn.content = self.content or self.refusal
        else:
            add_parts(turn, self.content)
        turn.tool_calls.extend(call.called() for call in self.tool_calls)
        if self.function_call is not None and not self.tool_calls:
            called = self.function_call
            turn.tool_calls.add(
                id=_id_of(called.name), name=called.name, arguments=called.arguments
            )
        if self.role == "function" and not self.tool_call_id:
            turn.tool_call_id = _id_of(self.name)
        return turn


def part_places(messages: Sequence[ChatMessage]) -> Places:
    """Returns where the parts of turns came from: what was thought is none of them."""
    return {
        ("messages", number, "parts", place): [("messages", number, "content", origin)]
        for number, message in enumerate(messages)
        if not isinstance(message.content, str)
        for place, origin in enumerate(kept_of(message.content))
    }


def _id_of(function: str) -> str:
    """Returns the id of a call that has none, as its answer finds it."""
    return f"call_{function}"[:256]

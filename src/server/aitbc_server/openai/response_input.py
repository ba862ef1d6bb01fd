"""What a response may be asked: the items of its input, and the turns of a job that they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, Tag, ValidationInfo, model_validator

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.content_parts import set_content
from aitbc_server.openai.custom_tools import arguments_of
from aitbc_server.openai.origins import Places
from aitbc_server.openai.response_items import unsealed
from aitbc_server.openai.ruled import counted, sized
from aitbc_server.openai.schema import BY_FORM, LIST, TEXT, Name, Prose, Schema, Several

_ROLES = {"developer": "system"}
_CALL = jobs_pb2.ToolCall.DESCRIPTOR
_PART = jobs_pb2.ContentPart.DESCRIPTOR
_DETAILS = ("auto", "low", "high")
Arguments = Annotated[str, sized(_CALL, "arguments")]


def by_type(kinds: Mapping[str, str]) -> Discriminator:
    """Has an object read as what its type says that it is; `kinds` has the tag of each type.

    One without a type is read as the first, which then misses it.
    """
    first = next(iter(kinds.values()))

    def tag(value: Any) -> str | None:
        if not isinstance(value, dict):
            return None
        kind = value.get("type")
        return first if kind is None else kinds.get(kind) if isinstance(kind, str) else None

    return Discriminator(tag)


class TextPart(Schema, table="response_part"):
    """A part of a message that is a text."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: Prose

    def part(self) -> jobs_pb2.ContentPart:
        """Returns it as a job has it."""
        return jobs_pb2.ContentPart(type="text", text=self.text)


class RefusalPart(Schema, table="response_part"):
    """A part of a message in which the model refuses."""

    type: Literal["refusal"]
    refusal: Prose

    def part(self) -> jobs_pb2.ContentPart:
        """Returns it as a job has it."""
        return jobs_pb2.ContentPart(type="text", text=self.refusal)


class ImagePart(Schema, table="response_image"):
    """An image in a message."""

    type: Literal["input_image"]
    image_url: Annotated[str, sized(_PART, "url"), Field(min_length=1)]
    detail: Name = ""

    def part(self) -> jobs_pb2.ContentPart:
        """Returns it as a job has it."""
        detail = self.detail if self.detail in _DETAILS else ""
        return jobs_pb2.ContentPart(type="image_url", url=self.image_url, detail=detail)


class Audio(Schema):
    """What is heard."""

    data: Annotated[str, sized(_PART, "data"), Field(min_length=1)]
    format: Name


class AudioPart(Schema, table="response_part"):
    """Something heard in a message."""

    type: Literal["input_audio"]
    input_audio: Audio

    def part(self) -> jobs_pb2.ContentPart:
        """Returns it as a job has it."""
        heard = self.input_audio
        return jobs_pb2.ContentPart(type=self.type, data=heard.data, format=heard.format)


_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
Part = Annotated[
    Annotated[TextPart, Tag("(text)")]
    | Annotated[RefusalPart, Tag("(refusal)")]
    | Annotated[ImagePart, Tag("(image)")]
    | Annotated[AudioPart, Tag("(audio)")],
    by_type(
        {
            **dict.fromkeys(_TEXTS, "(text)"),
            "refusal": "(refusal)",
            "input_image": "(image)",
            "input_audio": "(audio)",
        }
    ),
]
Content = Annotated[
    Annotated[Prose, TEXT]
    | Annotated[Several[Part], counted(jobs_pb2.ChatMessage.DESCRIPTOR, "parts"), LIST],
    BY_FORM,
]


class MessageItem(Schema, table="response_item"):
    """One turn of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    status: Name = ""

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        return _turn(_ROLES.get(self.role, self.role), self.content)


class CallItem(Schema, table="response_item"):
    """A call that the model asked for."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    namespace: Name = ""
    arguments: Arguments

    def call(self) -> jobs_pb2.ToolCall:
        """Returns it as a job has it."""
        name = flat_name(self.namespace, self.name) if self.namespace else self.name
        return jobs_pb2.ToolCall(id=self.call_id, name=name, arguments=self.arguments)


class CustomCallItem(Schema, table="response_item"):
    """A call of a custom tool that the model asked for."""

    type: Literal["custom_tool_call"]
    call_id: Name
    name: Name
    input: Arguments

    def call(self) -> jobs_pb2.ToolCall:
        """Returns it as a job has it."""
        arguments = arguments_of(self.input)
        return jobs_pb2.ToolCall(id=self.call_id, name=self.name, arguments=arguments)


class OutputItem(Schema, table="response_item"):
    """What a called tool returned."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Name = ""
    output: Content

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        turn = _turn("tool", self.output)
        turn.tool_call_id = self.call_id
        return turn


class ReasoningItem(Schema, table="response_item"):
    """What the model thought before the message or the call that follows."""

    type: Literal["reasoning"]
    summary: Several[TextPart] = ()
    content: Several[TextPart] = ()
    # Of another server it is read by nobody here.
    encrypted_content: Annotated[str, sized(_PART, "data")] = ""

    @model_validator(mode="before")
    @classmethod
    def _tells_what_is_foreign(cls, data: Any, info: ValidationInfo) -> Any:
        content = data.get("encrypted_content") if isinstance(data, dict) else None
        if info.context is not None and isinstance(content, str) and unsealed(content) is None:
            info.context.add(data, "encrypted_content")
        return data

    @property
    def text(self) -> str:
        """The reasoning as far as it is told."""
        if text := "".join(part.text for part in self.content):
            return text
        if self.encrypted_content and (text := unsealed(self.encrypted_content) or ""):
            return text
        return "".join(part.text for part in self.summary)


class ItemReference(Schema, table="response_item"):
    """An item of a response that is kept, or of what one was asked."""

    type: Literal["item_reference"] = "item_reference"
    id: Name


def _is_reference(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    # It need not say that it is one.
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def _type_of(item: Any) -> str | None:
    # Nor need a message.
    kind = (item.get("type") or "message") if isinstance(item, dict) else None
    return f"({kind})" if isinstance(kind, str) else None


# Only what it says that it is, is looked at.
PlainItem = Annotated[
    Annotated[MessageItem, Tag("(message)")]
    | Annotated[CallItem, Tag("(function_call)")]
    | Annotated[CustomCallItem, Tag("(custom_tool_call)")]
    | Annotated[OutputItem, Tag("(function_call_output)")]
    | Annotated[OutputItem, Tag("(custom_tool_call_output)")]
    | Annotated[ReasoningItem, Tag("(reasoning)")],
    Discriminator(_type_of),
]
Item = Annotated[
    Annotated[PlainItem, Tag("(item)")] | Annotated[ItemReference, Tag("(reference)")],
    Discriminator(lambda item: "(reference)" if _is_reference(item) else "(item)"),
]
TURN_STATES = ("in_progress", "incomplete")


def flat_name(namespace: str, name: str) -> str:
    """Returns the name under which a model knows a tool of a namespace: vLLM's."""
    return f"{namespace}__{name}"


class Turn(NamedTuple):
    """A turn of a job, and the places of the items that it was made of."""

    message: jobs_pb2.ChatMessage
    # None of calls and thoughts alone.
    said: int | None
    thought: list[int]
    called: list[int]

    def add(self, more: Turn) -> Turn:
        """Returns it with another of the same speaker."""
        self.message.MergeFrom(more.message)
        said = self.said if more.said is None else more.said
        return Turn(self.message, said, self.thought + more.thought, self.called + more.called)


def turns(items: Iterable[PlainItem]) -> Iterator[Turn]:
    """Yields the turns of items.

    What the assistant thinks, says and calls in a row is one turn, as vLLM has it, until it thinks
    or says something anew.
    """
    last: Turn | None = None
    for place, item in enumerate(items):
        turn = _turn_of(item, place)
        if last is not None:
            if turn.message.role == "assistant" and not _says_anew(last.message, turn.message):
                last = last.add(turn)
                continue
            yield _whole(last)
            last = None
        if turn.message.role == "assistant":
            last = turn
        else:
            yield turn
    if last is not None:
        yield _whole(last)


def _turn_of(item: PlainItem, place: int) -> Turn:
    if isinstance(item, ReasoningItem):
        thought = jobs_pb2.ChatMessage(role="assistant", reasoning=item.text)
        return Turn(thought, None, [place], [])
    if isinstance(item, CallItem | CustomCallItem):
        call = jobs_pb2.ChatMessage(role="assistant", tool_calls=[item.call()])
        return Turn(call, None, [], [place])
    return Turn(item.turn(), place, [], [])


def _says_anew(last: jobs_pb2.ChatMessage, next_: jobs_pb2.ChatMessage) -> bool:
    return bool(
        (last.reasoning and next_.reasoning) or (_has_content(last) and _has_content(next_))
    )


def _whole(turn: Turn) -> Turn:
    if not _has_content(turn.message):
        turn.message.content = ""
    return turn


def _has_content(message: jobs_pb2.ChatMessage) -> bool:
    return message.HasField("content") or bool(message.parts)


def turn_places(turn: Turn, number: int) -> Places:
    """Returns where a turn came from, which is one of a job's messages."""
    said = [] if turn.said is None else [turn.said]
    own = [*said, *turn.called, *turn.thought][:1]
    return {
        ("messages", number): [("input", place) for place in own],
        **{
            ("messages", number, "tool_calls", call): [("input", place)]
            for call, place in enumerate(turn.called)
        },
        ("messages", number, "reasoning"): [
            ("input", place, name)
            for place in turn.thought
            for name in ("content", "encrypted_content", "summary")
        ],
    }


def is_unfinished(items: Iterable[PlainItem]) -> bool:
    """Says whether the answer is to go on with the last item: a message that was not finished."""
    *_, last = items
    return isinstance(last, MessageItem) and last.role == "assistant" and last.status in TURN_STATES


def _turn(role: str, content: Any) -> jobs_pb2.ChatMessage:
    if isinstance(content, str):
        return jobs_pb2.ChatMessage(role=role, content=content)
    turn = jobs_pb2.ChatMessage(role=role)
    set_content(turn, [part.part() for part in content])
    return turn

"""The blocks that messages are made of, and what of a job's conversation each one becomes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, StringConstraints, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.origins import Path
from aitbc_server.openai.ruled import sized
from aitbc_server.openai.schema import (
    BY_FORM,
    LIST,
    TEXT,
    Name,
    Prose,
    Schema,
    Several,
    json_text,
)

_PART = jobs_pb2.ContentPart.DESCRIPTOR
_Address = Annotated[str, sized(_PART, "url")]
# Of an image, unless it is said.
_IMAGE = "image/jpeg"
# As the rules of a job have it.
_SCHEMES = r"^([hH][tT][tT][pP][sS]?://|[dD][aA][tT][aA]:)"


def _by_type(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return None if kind is None else f"({kind})"


# Tags in brackets are left out of the paths of errors.
_BY_TYPE = Discriminator(_by_type)


class Block(Schema, table="anthropic_block"):
    """A block of a message."""


class TextBlock(Block):
    """A text."""

    type: Literal["text"]
    text: Prose


Texts = Annotated[Annotated[Prose, TEXT] | Annotated[Several[TextBlock], LIST], BY_FORM]


class Base64Source(Schema):
    """What is here, in Base64."""

    type: Literal["base64"]
    media_type: Name = _IMAGE
    data: _Address

    @property
    def address(self) -> str:
        """A URL that it is at."""
        return f"data:{self.media_type};base64,{self.data}"


class UrlSource(Schema):
    """What is elsewhere."""

    type: Literal["url"]
    url: Annotated[_Address, StringConstraints(pattern=_SCHEMES)]

    @property
    def address(self) -> str:
        """A URL that it is at."""
        return self.url


class PlainSource(Schema):
    """A text."""

    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: Prose

    @property
    def text(self) -> str:
        """What it says."""
        return self.data


class ContentSource(Schema):
    """A text, in blocks."""

    type: Literal["content"]
    content: Texts

    @property
    def text(self) -> str:
        """What it says."""
        return text_of(self.content)


class ImageBlock(Block):
    """An image."""

    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source, Tag("(base64)")] | Annotated[UrlSource, Tag("(url)")], _BY_TYPE
    ]

    def part(self) -> jobs_pb2.ContentPart:
        """Returns it as a part of a job's message."""
        return jobs_pb2.ContentPart(type="image_url", url=self.source.address)


class DocumentBlock(Block):
    """A document, of which the model is told the text: of others, such as PDF, nobody knows it."""

    type: Literal["document"]
    source: Annotated[
        Annotated[PlainSource, Tag("(text)")] | Annotated[ContentSource, Tag("(content)")], _BY_TYPE
    ]
    title: Prose = ""
    context: Prose = ""

    def text(self) -> str:
        """Returns its text, with what is said about it."""
        return "\n".join(one for one in (self.title, self.context, self.source.text) if one)


class SearchResultBlock(Block):
    """Something that a search found."""

    type: Literal["search_result"]
    source: Prose = ""
    title: Prose = ""
    content: Several[TextBlock]

    def text(self) -> str:
        """Returns its text, with where it is from."""
        return "\n".join(one for one in (self.title, self.source, text_of(self.content)) if one)


class ThinkingBlock(Block):
    """What the model thought before it answered."""

    type: Literal["thinking"]
    thinking: Prose = ""


class RedactedThinkingBlock(Block):
    """What a model thought that nobody can read."""

    type: Literal["redacted_thinking"]
    data: Any = None


class ToolUseBlock(Block):
    """A call of a tool, as the model asked for it."""

    type: Literal["tool_use"]
    id: Name
    name: Name
    input: dict[str, Any] = Field(default={})

    def call(self) -> jobs_pb2.ToolCall:
        """Returns it as a job has it."""
        return jobs_pb2.ToolCall(id=self.id, name=self.name, arguments=json_text(self.input))


class ToolReferenceBlock(Block):
    """Names a tool that a search of tools found: all of them are told to the model anyway."""

    type: Literal["tool_reference"]
    tool_name: Name = ""


_ResultPart = Annotated[
    Annotated[TextBlock, Tag("(text)")]
    | Annotated[ImageBlock, Tag("(image)")]
    | Annotated[DocumentBlock, Tag("(document)")]
    | Annotated[SearchResultBlock, Tag("(search_result)")]
    | Annotated[ToolReferenceBlock, Tag("(tool_reference)")],
    _BY_TYPE,
]


class ToolResultBlock(Block):
    """What a tool answered."""

    type: Literal["tool_result"]
    tool_use_id: Name
    content: Annotated[Annotated[Prose, TEXT] | Annotated[Several[_ResultPart], LIST], BY_FORM] = ""


AnyBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")]
    | Annotated[ImageBlock, Tag("(image)")]
    | Annotated[DocumentBlock, Tag("(document)")]
    | Annotated[SearchResultBlock, Tag("(search_result)")]
    | Annotated[ThinkingBlock, Tag("(thinking)")]
    | Annotated[RedactedThinkingBlock, Tag("(redacted_thinking)")]
    | Annotated[ToolUseBlock, Tag("(tool_use)")]
    | Annotated[ToolResultBlock, Tag("(tool_result)")],
    _BY_TYPE,
]
Blocks = Annotated[Annotated[Prose, TEXT] | Annotated[Several[AnyBlock], LIST], BY_FORM]


def text_of(content: str | Iterable[TextBlock], between: str = "\n") -> str:
    """Returns the text that blocks make together."""
    return content if isinstance(content, str) else between.join(one.text for one in content)


class Placed(NamedTuple):
    """A part of a job's message, and the block that it came from."""

    part: jobs_pb2.ContentPart
    path: Path


def parts_of(path: Path, blocks: Iterable[Block]) -> list[Placed]:
    """Returns the texts and images of blocks, and not their calls and thoughts.

    `path`: of what has the blocks as its content.
    """
    parts = []
    for place, block in enumerate(blocks):
        if isinstance(block, ImageBlock):
            part = block.part()
        elif isinstance(block, TextBlock) and block.text:
            part = jobs_pb2.ContentPart(type="text", text=block.text)
        elif isinstance(block, DocumentBlock | SearchResultBlock):
            part = jobs_pb2.ContentPart(type="text", text=block.text())
        else:
            continue
        parts.append(Placed(part, (*path, "content", place)))
    return parts

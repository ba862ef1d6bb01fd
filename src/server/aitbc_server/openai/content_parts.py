"""Parts of the messages of a chat: texts, and what is no text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.ruled import sized
from aitbc_server.openai.schema import Name, Prose, Schema

_PART = jobs_pb2.ContentPart.DESCRIPTOR
_Url = Annotated[str, sized(_PART, "url")]
_MEDIA = ("image_url", "video_url", "audio_url")


class TextPart(Schema, table="part"):
    """A text."""

    type: Literal["text", "input_text", "output_text"] = "text"
    text: Prose


class RefusalPart(Schema, table="part"):
    """A text with which the model refused."""

    type: Literal["refusal"]
    refusal: Prose


class ThinkingPart(Schema, table="part"):
    """What the assistant thought before it spoke."""

    type: Literal["thinking", "reasoning"]
    thinking: Prose = ""
    text: Prose = ""


class Place(Schema, table="place"):
    """Where something is."""

    url: _Url
    detail: Literal["auto", "low", "high"] | None = None


_Where = Annotated[
    Annotated[Place, Tag("(object)")] | Annotated[_Url, Tag("(text)")],
    Discriminator(lambda value: "(text)" if isinstance(value, str) else "(object)"),
]


class ImagePart(Schema, table="part"):
    """An image."""

    type: Literal["image_url"] = "image_url"
    image_url: _Where


class VideoPart(Schema, table="part"):
    """A film."""

    type: Literal["video_url"] = "video_url"
    video_url: _Where


class AudioPart(Schema, table="part"):
    """A sound."""

    type: Literal["audio_url"] = "audio_url"
    audio_url: _Where


class Sound(Schema):
    """A sound itself."""

    data: Annotated[str, sized(_PART, "data")]
    format: Name


class SoundPart(Schema, table="part"):
    """A sound that is a part of the request."""

    type: Literal["input_audio"] = "input_audio"
    input_audio: Sound


def _kind_of(part: Any) -> str | None:
    if isinstance(part, str):
        return "(bare)"
    if not isinstance(part, dict):
        return None
    kind = part.get("type")
    if kind is None:
        # As in vLLM: a part is what it has.
        kind = next((one for one in (*_MEDIA, "input_audio") if one in part), "text")
    return f"({kind})" if isinstance(kind, str) else None


def _as_part(text: str) -> TextPart:
    # Its text has no name in the request.
    return TextPart.model_construct(_fields_set=set(), text=text)


# Only what a part says that it is, is looked at.
Part = Annotated[
    Annotated[TextPart, Tag("(text)")]
    | Annotated[TextPart, Tag("(input_text)")]
    | Annotated[TextPart, Tag("(output_text)")]
    | Annotated[RefusalPart, Tag("(refusal)")]
    | Annotated[ThinkingPart, Tag("(thinking)")]
    | Annotated[ThinkingPart, Tag("(reasoning)")]
    | Annotated[ImagePart, Tag("(image_url)")]
    | Annotated[VideoPart, Tag("(video_url)")]
    | Annotated[AudioPart, Tag("(audio_url)")]
    | Annotated[SoundPart, Tag("(input_audio)")]
    | Annotated[Prose, AfterValidator(_as_part), Tag("(bare)")],
    Discriminator(_kind_of),
]


def add_parts(turn: jobs_pb2.ChatMessage, parts: Iterable[Part]) -> None:
    """Adds the parts of a message to it: as one text, where all of them are texts."""
    made = []
    for part in parts:
        if isinstance(part, ThinkingPart):
            turn.reasoning += part.thinking or part.text
        else:
            made.append(_made(part))
    set_content(turn, made)


def kept_of(parts: Sequence[Part]) -> list[int]:
    """Returns the places of the parts that are parts of a message, too."""
    return [place for place, part in enumerate(parts) if not isinstance(part, ThinkingPart)]


def set_content(turn: jobs_pb2.ChatMessage, parts: Sequence[jobs_pb2.ContentPart]) -> None:
    """Sets what a message has: one text, where all parts are texts, and else the parts."""
    texts = [part.text for part in parts]
    if all(part.type == "text" for part in parts):
        # As vLLM joins them for chat templates that take texts.
        turn.content = "\n".join(texts)
    else:
        turn.content = "".join(texts)
        turn.parts.extend(parts)


def _made(part: Any) -> jobs_pb2.ContentPart:
    if isinstance(part, TextPart):
        return jobs_pb2.ContentPart(type="text", text=part.text)
    if isinstance(part, RefusalPart):
        return jobs_pb2.ContentPart(type="text", text=part.refusal)
    if isinstance(part, SoundPart):
        sound = part.input_audio
        return jobs_pb2.ContentPart(type=part.type, data=sound.data, format=sound.format)
    where: Place | str = getattr(part, part.type)
    if isinstance(where, str):
        return jobs_pb2.ContentPart(type=part.type, url=where)
    detail = where.detail if part.type == "image_url" else None
    return jobs_pb2.ContentPart(type=part.type, url=where.url, detail=detail or "")

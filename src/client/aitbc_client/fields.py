"""Messages out of plain values, strictly: the first field that is wrong is named by its path.

The constructors of messages take a text for a list of texts, and True for a number, and say of a
wrong type neither where it is nor what is expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_INTEGERS: dict[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
# Longest part of a key that an error repeats.
_MAX_KEY = 100
# Types of content parts that are text: those of chat, and of either side in Responses.
_TEXT_PARTS = ("text", "input_text", "output_text")
# Those that are none, and what they have: in turns of conversations alone.
_MEDIA_PARTS = {
    "image_url": ("url", "detail"),
    "video_url": ("url",),
    "audio_url": ("url",),
    "input_audio": ("data", "format"),
}


class WrongField(ValueError):
    """A field of what was given cannot be taken; the message begins with its path."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


def message_of(message_class: type[M], values: Any, path: str = "") -> M:
    """Returns the message with these fields; what is None is left out. Raises WrongField."""
    if not isinstance(values, Mapping):
        raise WrongField(path, "must be an object")
    message = message_class()
    fields: Mapping[str, Any] = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        below = f"{path}.{name}" if path else str(name)
        field = fields.get(name) if isinstance(name, str) else None
        if field is None:
            raise WrongField(below, f"unknown field; known are {', '.join(fields)}")
        if value is None:
            continue
        if name == "content" and "parts" in fields and isinstance(value, list | tuple):
            _set_parts(message, value, below)
        else:
            _set(message, field, value, below)
    return message


def text_of(value: Any, path: str) -> str:
    """Returns a text, or the texts of content parts joined. Raises WrongField."""
    if isinstance(value, str):
        return _text(value, path)
    if not isinstance(value, list | tuple):
        raise WrongField(path, "must be a string, or a list of text parts")
    return "".join(_part(part, f"{path}[{index}]") for index, part in enumerate(value))


def _set_parts(message: Message, parts: Sequence[Any], path: str) -> None:
    """Sets the content of a turn of a conversation: as one text, where all parts of it are."""
    made = [_content_part(part, f"{path}[{index}]") for index, part in enumerate(parts)]
    turn: Any = message
    turn.content = "".join(part["text"] for part in made if part["type"] == "text")
    if any(part["type"] != "text" for part in made):
        for part in made:
            turn.parts.add(**part)


def _content_part(part: Any, path: str) -> dict[str, str]:
    """Returns the fields of a part, of which OpenAI's API has most one level deeper."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str) or kind not in _MEDIA_PARTS:
        return {"type": "text", "text": _part(part, path)}
    held, below = part.get(kind), f"{path}.{kind}"
    if isinstance(held, str) and "url" in _MEDIA_PARTS[kind]:
        held = {"url": held}
    if not isinstance(held, Mapping):
        raise WrongField(below, "must be an object")
    for name in held:
        if name not in _MEDIA_PARTS[kind]:
            known = ", ".join(_MEDIA_PARTS[kind])
            raise WrongField(f"{below}.{name}", f"unknown field; known are {known}")
    told = {name: value for name, value in held.items() if value is not None}
    return {"type": kind} | {name: _text(value, f"{below}.{name}") for name, value in told.items()}


def _part(part: Any, path: str) -> str:
    if not isinstance(part, Mapping):
        raise WrongField(path, 'must be a text part: {"type": "text", "text": "..."}')
    kind = part.get("type")
    if kind not in _TEXT_PARTS:
        raise WrongField(f"{path}.type", f"must be text: no {kind!r} part is taken here")
    if not isinstance(part.get("text"), str):
        raise WrongField(f"{path}.text", "must be a string")
    return _text(part["text"], f"{path}.text")


def _set(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name).update(_entries(field.message_type, value, path))
    elif field.is_repeated:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
            raise WrongField(path, "must be a list")
        items = [_one(field, item, f"{path}[{index}]") for index, item in enumerate(value)]
        getattr(message, field.name).extend(items)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_one(field, value, path))
    else:
        setattr(message, field.name, _one(field, value, path))


def _entries(entry: Descriptor, value: Any, path: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise WrongField(path, "must be an object")
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    entries = {}
    for name, item in value.items():
        below = f"{path}[{str(name)[:_MAX_KEY]}]"
        # JSON has no other names than texts.
        is_digits = key_field.cpp_type in _INTEGERS and isinstance(name, str) and name.isdecimal()
        key = _one(key_field, int(name) if is_digits else name, below)
        entries[key] = _one(value_field, item, below)
    return entries


def _one(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.message_type is not None:
        return message_of(message_factory.GetMessageClass(field.message_type), value, path)
    if field.name == "content":
        return text_of(value, path)
    if field.cpp_type in _INTEGERS:
        return _integer(value, path, *_INTEGERS[field.cpp_type])
    if field.cpp_type in _FLOATS:
        return _number(value, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise WrongField(path, "must be true or false")
        return value
    return _text(value, path)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise WrongField(path, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongField(path, "holds half of a surrogate pair, which is no character") from None
    return value


def _integer(value: Any, path: str, low: int, high: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongField(path, "must be an integer")
    if not low <= value <= high:
        raise WrongField(path, f"must be an integer from {low} to {high}")
    return value


def _number(value: Any, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongField(path, "must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WrongField(path, "must be a finite number")
    return number

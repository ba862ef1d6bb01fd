"""Reads a file that comes as `multipart/form-data`, bit by bit: never all of it is in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, Self
from urllib.parse import quote

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from aitbc_server.openai.errors import UNSUPPORTED, OpenAIError
from aitbc_server.openai.schema import WHOLE, Schema

FILE = b"file"
# The name of a field that is a member of an object.
_NESTED = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
# Parts of a form, bytes of a field, characters of the file's name, and bytes after the form.
_MOST_PARTS = 16
_MOST_FIELD_BYTES = 1024
_MOST_NAME = 255
_MOST_AFTER = 64 * 1024


# How forms write what would end a name or a header, as the HTML standard has it.
_WRITTEN = {"%22": '"', "%0D": "\r", "%0A": "\n"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What a quoted name does not have, or is read in several ways there.
_UNQUOTED = re.compile(r'[^\x20-\x7e]|["\\%]')


class Sink(Protocol):
    """Where the content goes."""

    async def begin(self, filename: str) -> None:
        """Takes the name of the file, which comes first."""
        ...

    async def write(self, content: bytes) -> None:
        """Takes more of the content."""
        ...


class ExpiresAfter(Schema, table="expiry"):
    """When files are deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000), WHOLE]


class FileForm(Schema, table="file_form"):
    """What a form says of its file."""

    purpose: str
    expires_after: ExpiresAfter | None = None

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        if self.purpose != "batch":
            why = f"nothing here reads files for {self.purpose[:64]!r}, only batch"
            raise PydanticCustomError(UNSUPPORTED, "{why}", {"name": "purpose", "why": why})
        return self


@dataclass(slots=True)
class Form:
    """What a form has beside the content of its file."""

    fields: dict[str, str] = field(default_factory=dict)
    has_file: bool = False

    @property
    def members(self) -> dict[str, Any]:
        """The fields as an object: `a[b]` is the member `b` of `a`."""
        members: dict[str, Any] = {}
        for name, value in self.fields.items():
            nested = _NESTED.fullmatch(name)
            if nested is None:
                members[name] = value
                continue
            held = members.get(nested[1])
            if not isinstance(held, dict):
                held = members[nested[1]] = {}
            held[nested[2]] = value
        return members


async def read_form(content_type: str, pieces: AsyncIterator[bytes], sink: Sink) -> Form:
    """Reads a form with one file. Raises OpenAIError, and what the sink raises."""
    reader = _Reader(_boundary(content_type))
    form = Form()
    async for piece in pieces:
        reader.feed(piece)
        for filename, content in reader.taken():
            if filename is not None:
                form.has_file = True
                await sink.begin(filename)
            if content:
                await sink.write(content)
    form.fields = reader.finish()
    return form


class _Reader:
    """Feeds the parser, and collects what it finds until that is taken."""

    def __init__(self, boundary: bytes) -> None:
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None
        self._fields: dict[str, str] = {}
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()
        self._is_file = False
        self._has_file = False
        self._parts = 0
        self._is_over = False
        # Bytes that came after the last boundary, about.
        self._after = 0
        # The name of a file that has begun, and content that has come.
        self._filename: str | None = None
        self._content = bytearray()

    def feed(self, piece: bytes) -> None:
        """Takes more of the body. Raises OpenAIError."""
        if self._is_over:
            self._after += len(piece)
            if self._after > _MOST_AFTER:
                raise _malformed("it goes on after its last boundary")
            return
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def taken(self) -> list[tuple[str | None, bytes]]:
        """Returns what has come of the file since this was last asked, and forgets it."""
        if self._filename is None and not self._content:
            return []
        taken = [(self._filename, bytes(self._content))]
        self._filename = None
        self._content.clear()
        return taken

    def finish(self) -> dict[str, str]:
        """Returns the fields. Raises OpenAIError when the body ended too soon."""
        if not self._is_over:
            raise _malformed("it ends before its last boundary")
        return self._fields

    # What the parser finds

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _malformed(f"it has more than {_MOST_PARTS} parts")
        self._headers = {}
        self._name = self._value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise _malformed("a part does not say what field it is")
        self._is_file = name == FILE
        if self._is_file:
            if self._has_file:
                raise _wrong("file", "must be one file")
            self._has_file = True
            self._filename = _filename(options)
            return
        self._field = name.decode(errors="replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._content += data[start:end]
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_FIELD_BYTES:
            raise _wrong((self._field or "")[:64], f"has more than {_MOST_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._field is not None:
            self._fields[self._field] = self._text.decode(errors="replace")
        self._field = None
        self._text.clear()
        self._is_file = False

    def _on_end(self) -> None:
        self._is_over = True


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise OpenAIError(
            400,
            "The body must be multipart/form-data, and its Content-Type must name the boundary.",
            code="invalid_multipart_form",
        )
    return boundary


def disposition(filename: str) -> tuple[bytes, bytes]:
    """Returns the header under which a file is saved with its name."""
    plain = _UNQUOTED.sub("_", filename)
    value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
    return b"content-disposition", value.encode()


def _filename(options: Mapping[bytes, bytes]) -> str:
    name = options.get(b"filename", b"").decode(errors="replace")
    for written, meant in _WRITTEN.items():
        name = name.replace(written, meant)
    if _CONTROL.search(name):
        raise _wrong("file", "its name must not contain control characters")
    return name[:_MOST_NAME] or "file"


def _malformed(problem: str) -> OpenAIError:
    return OpenAIError(400, f"The form cannot be read: {problem}.", code="invalid_multipart_form")


def _wrong(param: str, problem: str) -> OpenAIError:
    return OpenAIError(400, f"Invalid '{param}': {problem}.", code="invalid_value", param=param)

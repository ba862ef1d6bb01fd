"""Path templates of `google.api.http`, such as `/v1/{name=shelves/*}:archive`.

    Template  = "/" Segments [ Verb ]
    Segments  = Segment { "/" Segment }
    Segment   = "*" | "**" | LITERAL | Variable
    Variable  = "{" FieldPath [ "=" Segments ] "}"
    FieldPath = IDENT { "." IDENT }
    Verb      = ":" LITERAL

The grammar and its meaning are those of google/api/http.proto.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

# Segments that are no literals: exactly one segment, and any number of them.
ONE = "*"
MANY = "**"

_TOKEN = re.compile(r"\*\*|[*{}=/]|[^*{}=/]+")
_FIELD_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A field that segments of the path fill."""

    field_path: tuple[str, ...]
    # The segments [start:end] of a path; up to its last one where there is no end.
    start: int
    end: int | None

    def capture(self, segments: Sequence[str]) -> str:
        """Returns the value that a matching path gives the field."""
        return "/".join(segments[self.start : self.end])


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A parsed template."""

    # Literals, ONE and MANY. MANY is the last one.
    segments: tuple[str, ...]
    # What follows the colon; empty where there is none.
    verb: str
    variables: tuple[Variable, ...]


class TemplateError(ValueError):
    """A template does not follow the grammar."""


def parse(text: str) -> Template:
    """Parses a template. Raises TemplateError."""
    return _Parser(text).template()


def percent_decode(text: str) -> str:
    """Decodes percent escapes. Raises ValueError when one is malformed or the text is not UTF-8."""
    if _BAD_ESCAPE.search(text):
        raise ValueError("a percent sign is not followed by two hexadecimal digits")
    return unquote(text, errors="strict")


class _Parser:
    """Recursive descent over the tokens, one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        path, self._verb = _split_verb(text)
        self._tokens = _TOKEN.findall(path)
        self._position = 0
        self._segments: list[str] = []
        self._variables: list[Variable] = []

    def template(self) -> Template:
        self._expect("/")
        self._segments_rule(in_variable=False)
        if self._position != len(self._tokens):
            raise self._error(f"unexpected {self._tokens[self._position]!r}")
        if MANY in self._segments[:-1]:
            raise self._error("** is not the last segment")
        return Template(
            segments=tuple(self._segments), verb=self._verb, variables=tuple(self._variables)
        )

    def _segments_rule(self, *, in_variable: bool) -> None:
        self._segment(in_variable=in_variable)
        while self._peek() == "/":
            self._expect("/")
            self._segment(in_variable=in_variable)

    def _segment(self, *, in_variable: bool) -> None:
        part = self._next()
        if part == "{":
            if in_variable:
                raise self._error("a variable within a variable")
            self._variable()
        elif part in {"}", "=", "/"}:
            raise self._error(f"unexpected {part!r}")
        else:
            self._segments.append(part)

    def _variable(self) -> None:
        start = len(self._segments)
        path = self._next()
        if not _FIELD_PATH.fullmatch(path):
            raise self._error(f"{path!r} is not a field path")
        field_path = tuple(path.split("."))
        if any(field_path == variable.field_path for variable in self._variables):
            raise self._error(f"{path} is bound twice")
        if self._peek() == "=":
            self._expect("=")
            self._segments_rule(in_variable=True)
        else:
            self._segments.append(ONE)
        self._expect("}")
        end = None if self._segments[-1] == MANY else len(self._segments)
        self._variables.append(Variable(field_path=field_path, start=start, end=end))

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise self._error("unexpected end")
        self._position += 1
        return token

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise self._error(f"{token!r} expected, {found!r} found")

    def _error(self, problem: str) -> TemplateError:
        return TemplateError(f"{self._text!r}: {problem}")


def _split_verb(text: str) -> tuple[str, str]:
    # The verb follows the last colon of the last segment, and no colon can be in a variable.
    colon = text.rfind(":")
    if colon < 0 or colon < max(text.rfind("/"), text.rfind("}")):
        return text, ""
    if colon == len(text) - 1:
        raise TemplateError(f"{text!r}: the verb is empty")
    return text[:colon], text[colon + 1 :]
